"""A row's model as the inline model of a scenario document."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, get_args

from simulator import catalogue
from simulator.errors import CatalogueError, RowError
from simulator.scenario.model import Positional

if TYPE_CHECKING:
    from simulator.scenario import Experts, LatentAttention, Model
    from simulator.validation.assumptions import Assumptions
    from simulator.validation.rows import Arch, Row


def model_document(row: Row, assumptions: Assumptions) -> dict[str, object]:
    """Describe a row's model in Hugging Face's words.

    The row's shape holds. What the row schema has no word for (norms, biases, windows, latent attention,
    prediction layers) is that of the catalogue's model of the same name and width; without one, a gated
    model is taken as Llama-like (RMSNorm, no biases) and another one as GPT-like (LayerNorm, biases).

    Args:
        row: The row.
        assumptions: Fills in what is not stated.

    Raises:
        RowError: The shape is not stated and the catalogue has no such model, or it is no transformer.
    """
    known = _known(row)
    if row.arch.layers is None or _is_hybrid(row, known):
        document = _without_shape(row, known)
    else:
        document = _shape(row, known, assumptions)
    document["name"] = row.model or "unnamed model"
    document["vocab_size"] = _padded_vocabulary(row, document, assumptions)
    if document["positional"] == "learned":
        document["max_position_embeddings"] = row.seq_len or assumptions.defaults.seq_length
    return document


def _is_hybrid(row: Row, known: Model | None) -> bool:
    """Tell whether the row has the very layers of a hybrid model, whose order no row states."""
    return (
        known is not None and known.layer_pattern is not None and row.arch.layers == known.num_hidden_layers
    )


def _known(row: Row) -> Model | None:
    if "?" in row.model:
        return None
    try:
        model = catalogue.model(row.model)
    except CatalogueError:
        return None
    return model if row.arch.hidden in {None, model.hidden_size} else None


def _without_shape(row: Row, known: Model | None) -> dict[str, object]:
    if known is None:
        raise RowError("model's shape is not stated")
    return _habits(known) | {
        "num_hidden_layers": known.num_hidden_layers,
        "hidden_size": known.hidden_size,
        "num_attention_heads": known.num_attention_heads,
        "num_key_value_heads": known.num_key_value_heads,
        "head_dim": known.head_dim,
        "intermediate_size": known.intermediate_size,
        "vocab_size": row.arch.vocab or known.vocab_size,
        "gated": known.gated,
        "tie_word_embeddings": known.tie_word_embeddings,
        "positional": known.positional,
        **({"experts": _stated(known.experts)} if known.experts else {}),
        **_hybrid(known),
    }


def _hybrid(known: Model) -> dict[str, object]:
    if known.layer_pattern is None:
        return {}
    return {
        "layer_pattern": known.layer_pattern,
        "mtp_layer_pattern": known.mtp_layer_pattern,
        "mtp_repeats_layer": known.mtp_repeats_layer,
        **({"mamba": asdict(known.mamba)} if known.mamba else {}),
    }


def _stated(part: Experts | LatentAttention) -> dict[str, object]:
    """Return a part of a model without what it leaves open."""
    return {name: value for name, value in asdict(part).items() if value is not None}


def _shape(row: Row, known: Model | None, assumptions: Assumptions) -> dict[str, object]:
    arch = row.arch
    if arch.layers is None or arch.hidden is None or arch.heads is None:
        raise RowError("model's shape is not stated")
    gated = arch.gated if arch.gated is not None else known.gated if known else True
    document = _habits(known) if known else _usual_habits(gated=gated)
    defaults = assumptions.defaults
    positional = assumptions.default_word(
        "positions", arch.positional, get_args(Positional), defaults.positional
    )
    latent = known is not None and known.latent_attention is not None
    document |= {
        "num_hidden_layers": arch.layers,
        "hidden_size": arch.hidden,
        "num_attention_heads": arch.heads,
        "num_key_value_heads": arch.kv_heads or arch.heads,
        "head_dim": known.head_dim if latent and known else arch.head_dim or arch.hidden // arch.heads,
        "intermediate_size": _feed_forward(arch, assumptions, gated=gated),
        "vocab_size": assumptions.default("vocabulary", arch.vocab, defaults.vocab_size),
        "gated": gated,
        "tie_word_embeddings": assumptions.default("tied embeddings", arch.tied, defaults.tied),
        "positional": positional,
    }
    if arch.experts:
        document["experts"] = _groups(known, arch) | _experts(arch, arch.layers, arch.experts)
    return document


def _habits(known: Model) -> dict[str, object]:
    habits: dict[str, object] = {
        name: getattr(known, name)
        for name in (
            "norm",
            "linear_bias",
            "qkv_bias",
            "qk_norm",
            "parallel_blocks",
            "residual_dropout",
            "num_nextn_predict_layers",
        )
    }
    if known.sliding_window is not None:
        habits["sliding_window"] = known.sliding_window
        habits["sliding_window_every"] = known.sliding_window_every
    if known.latent_attention is not None:
        habits["latent_attention"] = _stated(known.latent_attention)
    return habits


def _usual_habits(*, gated: bool) -> dict[str, object]:
    return {"norm": "rmsnorm" if gated else "layernorm", "linear_bias": not gated}


def _feed_forward(arch: Arch, assumptions: Assumptions, *, gated: bool) -> int:
    """Return the dense width: as stated, an expert's where every layer has experts, or the usual multiple."""
    if arch.ffn is not None:
        return arch.ffn
    if arch.experts and arch.expert_ffn:
        if arch.moe_layers not in {None, arch.layers}:
            raise RowError("width of the layers without experts is not stated")
        return arch.expert_ffn
    hidden = arch.hidden or 0
    width = -(-8 * hidden // 3 // 256) * 256 if gated else 4 * hidden
    assumptions.note(f"feed-forward width not stated: {width}, 8/3 of the hidden size if gated, else 4 times")
    return width


def _experts(arch: Arch, layers: int, num_experts: int) -> dict[str, object]:
    moe_layers = arch.moe_layers if arch.moe_layers is not None else layers
    width = arch.expert_ffn or arch.ffn
    if arch.topk is None or width is None or not 0 < moe_layers <= layers:
        raise RowError(
            "row contradicts itself: it has experts, but not their number per token, width or layers"
        )
    regular = moe_layers < layers and layers % moe_layers == 0
    return {
        "num_experts": num_experts,
        "num_experts_per_tok": arch.topk,
        "moe_intermediate_size": width,
        "num_shared_experts": arch.shared_experts or 0,
        "first_k_dense_replace": 0 if regular else layers - moe_layers,
        "moe_layer_step": layers // moe_layers if regular else 1,
    }


def _groups(known: Model | None, arch: Arch) -> dict[str, object]:
    """Return the groups that the model's experts form, which rows have no word for."""
    if known is None or known.experts is None or known.experts.num_experts != arch.experts:
        return {}
    return {"n_group": known.experts.n_group, "topk_group": known.experts.topk_group}


def _padded_vocabulary(row: Row, document: dict[str, object], assumptions: Assumptions) -> int:
    """Pad the vocabulary as Megatron does, which makes it divisible among tensor-parallel ranks."""
    vocabulary = int(str(document["vocab_size"]))
    multiple = assumptions.defaults.vocab_multiple * row.parallel.tp or row.parallel.tp
    padded = -(-vocabulary // multiple) * multiple
    if padded != vocabulary:
        assumptions.note(f"vocabulary {vocabulary} padded to {padded}, a multiple of {multiple}")
    return padded
