"""How many parameters a model has, and in which part they sit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.scenario.model import Block, Experts, Model


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerParameters:
    """Parameters of one transformer layer, by how parallelism divides them.

    Attributes:
        attention: Projection matrices of attention or Mamba and their biases: divided by tp.
        dense: The dense feed-forward block, or the shared experts: divided by tp.
        experts: All routed experts of the layer: divided by ep and expert tp.
        replicated: Norms, the router and projections to and from the experts' latent width: every
            tensor-parallel rank holds all of them.
    """

    attention: int
    dense: int
    experts: int
    replicated: int

    @property
    def total(self) -> int:
        """All parameters of the layer."""
        return self.attention + self.dense + self.experts + self.replicated


def _attention(model: Model) -> int:
    h, a, kv, d = model.hidden_size, model.num_attention_heads, model.num_key_value_heads, model.head_dim
    mla = model.latent_attention
    if mla is not None:
        qk = mla.qk_nope_head_dim + mla.qk_rope_head_dim
        q = h * a * qk if mla.q_lora_rank is None else mla.q_lora_rank * (h + a * qk)
        kv_down = h * (mla.kv_lora_rank + mla.qk_rope_head_dim)
        kv_up = mla.kv_lora_rank * a * (mla.qk_nope_head_dim + mla.v_head_dim)
        return q + kv_down + kv_up + a * mla.v_head_dim * h
    weights = h * d * (a + 2 * kv) + a * d * h
    bias = d * (a + 2 * kv) if model.linear_bias or model.qkv_bias else 0
    return weights + bias + (h if model.linear_bias else 0)


def _mamba(model: Model) -> int:
    """Count projections, the convolution with its bias, per-head constants (A, D, dt) and the gated norm."""
    if model.mamba is None:
        return 0
    mamba, h = model.mamba, model.hidden_size
    projections = h * (mamba.inner + mamba.convolved + mamba.num_heads) + mamba.inner * h
    return projections + mamba.convolved * (mamba.conv_kernel + 1) + 3 * mamba.num_heads + mamba.inner


def _feed_forward(model: Model, width: int, outer: int | None = None) -> int:
    matrices = 3 if model.gated else 2
    outer = outer or model.hidden_size
    bias = (matrices - 1) * width + outer if model.linear_bias else 0
    return matrices * outer * width + bias


def _replicated(model: Model, *, has_experts: bool, block: Block) -> int:
    per_norm = model.hidden_size * (2 if model.norm == "layernorm" else 1)
    norms = per_norm * (1 if model.parallel_blocks or block != "layer" else 2)
    if block in {"layer", "*"}:
        if model.qk_norm:
            norms += 2 * model.head_dim
        if model.latent_attention is not None:
            norms += (model.latent_attention.q_lora_rank or 0) + model.latent_attention.kv_lora_rank
    if not has_experts or model.experts is None:
        return norms
    latent = 2 * (model.experts.moe_latent_size or 0)
    return norms + model.hidden_size * (model.experts.num_experts + latent)


def layer_parameters(model: Model, *, has_experts: bool, block: Block = "layer") -> LayerParameters:
    """Count the parameters of one layer.

    Args:
        model: The model.
        has_experts: Whether the feed-forward block has experts.
        block: What the layer is in a hybrid model; see ``Model.layer_pattern``.
    """
    projections = {"layer": _attention(model), "*": _attention(model), "M": _mamba(model)}.get(block, 0)
    replicated = _replicated(model, has_experts=has_experts, block=block)
    if has_experts and model.experts is not None:
        one_shared = _feed_forward(model, model.experts.moe_intermediate_size)
        return LayerParameters(
            attention=projections,
            dense=one_shared * model.experts.num_shared_experts,
            experts=one_expert(model, model.experts) * model.experts.num_experts,
            replicated=replicated,
        )
    dense = _feed_forward(model, model.intermediate_size) if block in {"layer", "-"} else 0
    return LayerParameters(attention=projections, dense=dense, experts=0, replicated=replicated)


def one_expert(model: Model, experts: Experts) -> int:
    """Count the parameters of one routed expert."""
    return _feed_forward(model, experts.moe_intermediate_size, experts.moe_latent_size)


def prediction_layers(model: Model) -> list[tuple[Block, bool]]:
    """Return the layers of one multi-token-prediction module: what each is and whether it has experts."""
    last = model.is_moe_layer(model.num_hidden_layers - 1)
    return [(block, last if block == "layer" else block == "E") for block in model.prediction_blocks]


def prediction_projection(model: Model) -> int:
    """Count what a prediction module has besides its layers: the projection of 2h to h and three norms.

    DeepSeek-V3, arXiv:2412.19437, section 2.2, equation 21; embedding and head are shared with the model.
    """
    return 2 * model.hidden_size**2 + 3 * model.hidden_size * (2 if model.norm == "layernorm" else 1)


def embedding_parameters(model: Model) -> int:
    """Count the token and position tables."""
    positions = model.max_position_embeddings if model.positional == "learned" else 0
    return (model.vocab_size + positions) * model.hidden_size


def head_parameters(model: Model) -> int:
    """Count the final norm and, unless tied to the embedding, the output head."""
    norm = model.hidden_size * (2 if model.norm == "layernorm" else 1)
    return norm + (0 if model.tie_word_embeddings else model.vocab_size * model.hidden_size)


def total_parameters(model: Model) -> int:
    """Count all parameters, multi-token-prediction layers left out as the publishers do."""
    layers = (
        layer_parameters(model, has_experts=model.is_moe_layer(layer), block=model.block(layer)).total
        for layer in range(model.num_hidden_layers)
    )
    return sum(layers) + embedding_parameters(model) + head_parameters(model)


def active_parameters(model: Model) -> int:
    """Count the parameters that one token visits."""
    total = total_parameters(model)
    if model.experts is None:
        return total
    one = one_expert(model, model.experts)
    idle = model.experts.num_experts - model.experts.num_experts_per_tok
    moe_layers = sum(map(model.is_moe_layer, range(model.num_hidden_layers)))
    return total - one * idle * moe_layers
