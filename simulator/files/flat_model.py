"""Inline models in Hugging Face's flat words: expert, Mamba and latent-attention keys move into mappings."""

from __future__ import annotations

from simulator.documents import Document

_TOP = {
    "n_layer": "num_hidden_layers",
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
}
_EXPERTS = {
    "num_experts": "num_experts",
    "num_local_experts": "num_experts",
    "n_routed_experts": "num_experts",
    "num_experts_per_tok": "num_experts_per_tok",
    "moe_intermediate_size": "moe_intermediate_size",
    "num_shared_experts": "num_shared_experts",
    "n_shared_experts": "num_shared_experts",
    "first_k_dense_replace": "first_k_dense_replace",
    "moe_layer_step": "moe_layer_step",
    "n_group": "n_group",
    "topk_group": "topk_group",
    "moe_latent_size": "moe_latent_size",
    "decoder_sparse_step": "moe_layer_step",
    "interleave_moe_layer_step": "moe_layer_step",
}
_MAMBA = {
    "mamba_num_heads": "num_heads",
    "mamba_head_dim": "head_dim",
    "ssm_state_size": "state_size",
    "n_groups": "n_groups",
    "conv_kernel": "conv_kernel",
    "chunk_size": "chunk_size",
}
_LATENT = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
_NEW_PLACE: dict[str, tuple[str, ...]] = {
    **{theirs: (ours,) for theirs, ours in _TOP.items()},
    **{theirs: ("experts", ours) for theirs, ours in _EXPERTS.items()},
    **{theirs: ("mamba", ours) for theirs, ours in _MAMBA.items()},
    **{key: ("latent_attention", key) for key in _LATENT},
}


def nested_model(document: Document) -> Document:
    """Return the document with the flat keys of an inline model where the schema has them."""
    data = document.data
    model = data.get("model") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(model, dict) or not _NEW_PLACE.keys() & model.keys():
        return document
    nested: dict[str, object] = {}
    keys, values = dict(document.keys), dict(document.values)
    for key, value in model.items():
        new = _NEW_PLACE.get(key, (key,))
        into = nested
        for part in new[:-1]:
            inner = into.setdefault(part, {})
            if not isinstance(inner, dict):
                return document
            into = inner
        if new[-1] in into:
            return document
        into[new[-1]] = dict(value) if isinstance(value, dict) else value
        for table in (keys, values):
            if ("model", key) in document.keys and new != (key,):
                table[("model", *new)] = table.pop(("model", key))
    experts = nested.get("experts")
    if isinstance(experts, dict) and "intermediate_size" in nested:
        experts.setdefault("moe_intermediate_size", nested["intermediate_size"])
    return Document(data | {"model": nested}, document.name, keys, values)
