"""How many parameters a model has, and in which part they sit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.scenario.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerParameters:
    """Parameters of one transformer layer, by how parallelism divides them.

    Attributes:
        attention: Projection matrices and their biases: divided by tp.
        dense: The dense feed-forward block, or the shared experts: divided by tp.
        experts: All routed experts of the layer: divided by ep and expert tp.
        replicated: Norms and the router: every tensor-parallel rank holds all of them.
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


def _feed_forward(model: Model, width: int) -> int:
    matrices = 3 if model.gated else 2
    bias = (matrices - 1) * width + model.hidden_size if model.linear_bias else 0
    return matrices * model.hidden_size * width + bias


def _replicated(model: Model, *, has_experts: bool) -> int:
    per_norm = model.hidden_size * (2 if model.norm == "layernorm" else 1)
    norms = per_norm * (1 if model.parallel_blocks else 2)
    if model.qk_norm:
        norms += 2 * model.head_dim
    if model.latent_attention is not None:
        norms += (model.latent_attention.q_lora_rank or 0) + model.latent_attention.kv_lora_rank
    router = model.hidden_size * model.experts.num_experts if has_experts and model.experts else 0
    return norms + router


def layer_parameters(model: Model, *, has_experts: bool) -> LayerParameters:
    """Count the parameters of one layer, with a dense feed-forward block or with experts."""
    replicated = _replicated(model, has_experts=has_experts)
    if not has_experts or model.experts is None:
        dense = _feed_forward(model, model.intermediate_size)
        return LayerParameters(attention=_attention(model), dense=dense, experts=0, replicated=replicated)
    one = _feed_forward(model, model.experts.moe_intermediate_size)
    return LayerParameters(
        attention=_attention(model),
        dense=one * model.experts.num_shared_experts,
        experts=one * model.experts.num_experts,
        replicated=replicated,
    )


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
        layer_parameters(model, has_experts=model.is_moe_layer(layer)).total
        for layer in range(model.num_hidden_layers)
    )
    return sum(layers) + embedding_parameters(model) + head_parameters(model)


def active_parameters(model: Model) -> int:
    """Count the parameters that one token visits."""
    total = total_parameters(model)
    if model.experts is None:
        return total
    one = _feed_forward(model, model.experts.moe_intermediate_size)
    idle = model.experts.num_experts - model.experts.num_experts_per_tok
    moe_layers = sum(map(model.is_moe_layer, range(model.num_hidden_layers)))
    return total - one * idle * moe_layers
