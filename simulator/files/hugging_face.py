"""A Hugging Face ``config.json`` as a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simulator.errors import ScenarioError
from simulator.files.config_reader import ConfigReader, read_json
from simulator.files.model_families import Family, family
from simulator.scenario import Experts, LatentAttention, Mamba, Model
from simulator.scenario.model import BLOCKS

if TYPE_CHECKING:
    import os

_BLOCKS = {"mamba": "M", "mamba2": "M", "attention": "*", "moe": "E", "mlp": "-"}


def read_config(path: str | os.PathLike[str]) -> Model:
    """Return the model that a ``config.json`` describes.

    Args:
        path: The file, or the folder that holds it.

    Raises:
        ScenarioError: The file is unreadable or not JSON, or keys are missing or of the wrong kind.
    """
    file = Path(path)
    config = ConfigReader(read_json(file), str(path))
    model = _model(config, family(config.text("model_type")), str(path))
    if config.problems:
        raise ScenarioError(config.problems)
    return model


def _model(config: ConfigReader, defaults: Family, source: str) -> Model:
    pattern = _layer_pattern(config)
    layers = config.size(
        "num_hidden_layers", "n_layer", "n_layers", "num_layers", default=len(pattern) if pattern else None
    )
    if pattern and len(pattern) != layers:
        config.note("hybrid_override_pattern", f"holds {len(pattern)} layers, but the model has {layers}")
    hidden = config.size("hidden_size", "n_embd", "d_model")
    heads = config.size("num_attention_heads", "n_head", "n_heads")
    attention_bias = config.flag("attention_bias", "use_bias", default=defaults.linear_bias)
    window, every = _sliding_window(config, layers)
    latent = _latent_attention(config)
    rms = config.has("rms_norm_eps") or config.has("norm_eps")
    return Model(
        name=_name(config, source),
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=config.size("num_key_value_heads", "num_kv_heads", default=heads),
        head_dim=_head_dim(config, hidden, heads),
        intermediate_size=_dense_width(config, hidden),
        vocab_size=config.size("vocab_size"),
        gated=defaults.gated,
        tie_word_embeddings=config.flag("tie_word_embeddings", default=defaults.tied),
        positional=defaults.positional,
        max_position_embeddings=config.size(
            "max_position_embeddings", "n_positions", "max_seq_len", default=0
        ),
        norm="rmsnorm" if rms else "layernorm",
        linear_bias=attention_bias
        and config.flag("mlp_bias", default=defaults.linear_bias or not defaults.gated),
        qkv_bias=attention_bias or defaults.qkv_bias,
        qk_norm=config.flag("use_qk_norm", "qk_layernorm", default=defaults.qk_norm),
        parallel_blocks=config.flag(
            "use_parallel_residual", "parallel_attn", default=defaults.parallel_blocks
        ),
        residual_dropout=config.positive("resid_pdrop", "hidden_dropout", default=defaults.linear_bias),
        sliding_window=window,
        sliding_window_every=every,
        attention_chunk_size=config.size("attention_chunk_size")
        if config.has("attention_chunk_size")
        else None,
        num_nextn_predict_layers=config.size("num_nextn_predict_layers", default=0, least=0),
        experts=_experts(config, defaults),
        latent_attention=latent,
        layer_pattern=pattern,
        mamba=_mamba(config) if pattern and "M" in pattern else None,
        mtp_layer_pattern=config.text("mtp_hybrid_override_pattern") or "*E",
        source=source,
    )


def _name(config: ConfigReader, source: str) -> str:
    named = config.text("_name_or_path").rstrip("/").rpartition("/")[2]
    folder = Path(source).parent.name if Path(source).suffix == ".json" else Path(source).name
    return named or folder or config.text("model_type") or "model"


def _head_dim(config: ConfigReader, hidden: int, heads: int) -> int:
    if config.has("kv_lora_rank"):
        nope, rope = (config.size(key) for key in ("qk_nope_head_dim", "qk_rope_head_dim"))
        return nope + rope
    if not config.has("head_dim") and hidden % heads:
        config.note("head_dim", f"is missing, and hidden_size {hidden} is no multiple of {heads} heads")
    return config.size("head_dim", default=max(1, hidden // heads))


def _dense_width(config: ConfigReader, hidden: int) -> int:
    if config.has("expansion_ratio"):
        return hidden * config.size("expansion_ratio")
    wide = 4 * hidden if config.text("model_type") in {"gpt2", "bloom", "falcon", "gptj"} else None
    names = ("intermediate_size_mlp", "intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
    return config.size(*names, default=wide)


def _sliding_window(config: ConfigReader, layers: int) -> tuple[int | None, int]:
    """Return the window and its period: of every so many layers, all but the last use it."""
    if config.has("attention_chunk_size"):
        # Llama 4: every fourth layer has no rotary embedding and attends to everything.
        return None, config.size("no_rope_layer_interval", default=4)
    if not config.has("sliding_window") or not config.flag("use_sliding_window", default=True):
        return None, 1
    window = config.size("sliding_window")
    kinds = config.words("layer_types")
    if not kinds:
        return window, config.size("sliding_window_pattern", default=1)
    is_full = [kind == "full_attention" for kind in kinds]
    if len(is_full) != layers:
        config.note("layer_types", f"holds {len(is_full)} layers, but the model has {layers}")
    if True not in is_full:
        return window, 1
    every = is_full.index(True) + 1
    if every == 1:
        if not all(is_full):
            config.note("layer_types", "starts with a full_attention layer: that order is not simulated yet")
        return None, 1
    if any(full != ((layer + 1) % every == 0) for layer, full in enumerate(is_full)):
        config.note("layer_types", f"does not repeat every {every} layers: that order is not simulated yet")
    return window, every


def _layer_pattern(config: ConfigReader) -> str | None:
    """Return the letters of a hybrid model's layers (Nemotron-H)."""
    pattern = config.text("hybrid_override_pattern")
    if not pattern:
        kinds = config.words("layers_block_type")
        pattern = "".join(_BLOCKS.get(str(kind), "?") for kind in kinds)
    wrong = sorted(set(pattern) - set(BLOCKS))
    if wrong:
        config.note("hybrid_override_pattern", f"has blocks that are not simulated: {', '.join(wrong)}")
    return pattern or None


def _mamba(config: ConfigReader) -> Mamba:
    return Mamba(
        num_heads=config.size("mamba_num_heads"),
        head_dim=config.size("mamba_head_dim"),
        state_size=config.size("ssm_state_size"),
        n_groups=config.size("n_groups"),
        conv_kernel=config.size("conv_kernel", default=4),
        chunk_size=config.size("chunk_size", default=128),
    )


def _latent_attention(config: ConfigReader) -> LatentAttention | None:
    if not config.has("kv_lora_rank"):
        return None
    return LatentAttention(
        q_lora_rank=config.size("q_lora_rank", default=0) or None,
        kv_lora_rank=config.size("kv_lora_rank"),
        qk_nope_head_dim=config.size("qk_nope_head_dim"),
        qk_rope_head_dim=config.size("qk_rope_head_dim"),
        v_head_dim=config.size("v_head_dim"),
    )


def _experts(config: ConfigReader, defaults: Family) -> Experts | None:
    number = config.size("num_local_experts", "num_experts", "n_routed_experts", default=0, least=0)
    if number <= 1:
        return None
    width = config.size("moe_intermediate_size", "intermediate_size")
    shared = config.size("n_shared_experts", "num_shared_experts", default=defaults.shared_experts, least=0)
    for key in ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"):
        if config.has(key):
            shared, rest = divmod(config.size(key), width)
            if rest:
                config.note(key, f"is no multiple of the experts' width {width}")
    first, step = _expert_layers(config)
    chosen = config.size("num_experts_per_tok", "moe_topk", "num_experts_per_token")
    if chosen > number:
        config.note("num_experts_per_tok", f"{chosen} is more than the {number} experts")
    return Experts(
        num_experts=number,
        num_experts_per_tok=chosen,
        moe_intermediate_size=width,
        num_shared_experts=shared,
        first_k_dense_replace=first,
        moe_layer_step=step,
        n_group=config.size("n_group", default=1),
        topk_group=config.size("topk_group", default=1),
        moe_latent_size=config.size("moe_latent_size") if config.has("moe_latent_size") else None,
    )


def _expert_layers(config: ConfigReader) -> tuple[int, int]:
    """Return the leading dense layers, and every how many layers after them one has experts."""
    first = config.size("first_k_dense_replace", default=0, least=0)
    step = config.size("decoder_sparse_step", "interleave_moe_layer_step", default=1)
    if config.has("moe_layer_freq") and config.keys["moe_layer_freq"] != 1:
        config.note("moe_layer_freq", "only 1 is simulated yet")
    dense = config.words("mlp_only_layers")
    if dense and dense != list(range(len(dense))):
        config.note("mlp_only_layers", "only leading dense layers are simulated yet")
    moe = config.words("moe_layers")
    if moe and moe[0] != step - 1:
        config.note("moe_layers", f"does not agree with interleave_moe_layer_step {step}")
    return max(first, len(dense)), step
