"""How many parameters a model has, and in which part they sit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.scenario.model import Block, LatentAttention, Mamba, Model

    LayerKey = tuple[bool, Block]
    """Whether a layer has experts, and what it is in a hybrid model (``Model.layer_pattern``)."""


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelParameters:
    """Parameters of a model, part by part; equal models have one object.

    Attributes:
        layers: What each layer is, in model order.
        counts: Parameters of a layer of each kind.
        prediction: What the layers of one multi-token-prediction module are.
        projection: What a module has besides its layers; see ``_projection``.
        modules: Prediction modules.
        modules_repeat: Whether all of them share the weights of the first.
        hidden_size: Width of the residual stream.
        vocab_size: Rows of the token table.
        positions: Rows of the learned position table.
        norm: Weights, and biases, of one norm.
        tied: Whether the head shares the token table.
        idle_experts: Parameters of a layer's routed experts that one token does not visit.
    """

    layers: tuple[LayerKey, ...]
    counts: Mapping[LayerKey, LayerParameters]
    prediction: tuple[LayerKey, ...]
    projection: int
    modules: int
    modules_repeat: bool
    hidden_size: int
    vocab_size: int
    positions: int
    norm: int
    tied: bool
    idle_experts: int

    @staticmethod
    @lru_cache(maxsize=256)
    def of(model: Model) -> ModelParameters:
        """Count the parameters of a model."""
        layers = layer_keys(model)
        prediction = tuple((has_experts, block) for block, has_experts in prediction_layers(model))
        norm = model.hidden_size * (2 if model.norm == "layernorm" else 1)
        idle = 0
        if model.experts is not None:
            unused = model.experts.num_experts - model.experts.num_experts_per_tok
            idle = unused * _expert(model)
        return ModelParameters(
            layers=layers,
            counts={key: _layer(model, *key) for key in dict.fromkeys((*layers, *prediction))},
            prediction=prediction,
            projection=_projection(model.hidden_size, norm),
            modules=model.num_nextn_predict_layers,
            modules_repeat=model.mtp_repeats_layer,
            hidden_size=model.hidden_size,
            vocab_size=model.vocab_size,
            positions=model.max_position_embeddings if model.positional == "learned" else 0,
            norm=norm,
            tied=model.tie_word_embeddings,
            idle_experts=idle,
        )

    @property
    def embedding(self) -> int:
        """The token and position tables."""
        return (self.vocab_size + self.positions) * self.hidden_size

    @property
    def head(self) -> int:
        """The final norm and, unless tied to the embedding, the output head."""
        return self.norm + (0 if self.tied else self.vocab_size * self.hidden_size)

    @property
    def total(self) -> int:
        """All parameters, multi-token-prediction layers left out as the publishers do."""
        return sum(self.counts[key].total for key in self.layers) + self.embedding + self.head

    @property
    def active(self) -> int:
        """Parameters that one token visits."""
        return self.total - self.idle_experts * sum(has_experts for has_experts, _ in self.layers)


def layer_keys(model: Model) -> tuple[LayerKey, ...]:
    """Return what each layer of a model is."""
    return tuple((model.is_moe_layer(layer), model.block(layer)) for layer in range(model.num_hidden_layers))


def prediction_layers(model: Model) -> list[tuple[Block, bool]]:
    """Return the layers of one multi-token-prediction module: what each is and whether it has experts."""
    last = model.is_moe_layer(model.num_hidden_layers - 1)
    return [(block, last if block == "layer" else block == "E") for block in model.prediction_blocks]


def _layer(model: Model, has_experts: bool, block: Block) -> LayerParameters:
    """Count the parameters of one layer."""
    projections = 0
    if block in {"layer", "*"}:
        projections = _attention(model)
    elif block == "M" and model.mamba is not None:
        projections = _mamba(model.hidden_size, model.mamba)
    replicated = _replicated(model, has_experts=has_experts, block=block)
    h, gated, bias = model.hidden_size, model.gated, model.linear_bias
    if has_experts and model.experts is not None:
        one_shared = _feed_forward(h, model.experts.moe_intermediate_size, gated=gated, bias=bias)
        return LayerParameters(
            attention=projections,
            dense=one_shared * model.experts.num_shared_experts,
            experts=_expert(model) * model.experts.num_experts,
            replicated=replicated,
        )
    has_dense = block in {"layer", "-"}
    dense = _feed_forward(h, model.intermediate_size, gated=gated, bias=bias) if has_dense else 0
    return LayerParameters(attention=projections, dense=dense, experts=0, replicated=replicated)


def _attention(model: Model) -> int:
    h, a, kv, d = model.hidden_size, model.num_attention_heads, model.num_key_value_heads, model.head_dim
    if model.latent_attention is not None:
        return _latent_attention(h, a, model.latent_attention)
    weights = h * d * (a + 2 * kv) + a * d * h
    bias = d * (a + 2 * kv) if model.linear_bias or model.qkv_bias else 0
    return weights + bias + (h if model.linear_bias else 0)


def _latent_attention(h: int, a: int, mla: LatentAttention) -> int:
    qk = mla.qk_nope_head_dim + mla.qk_rope_head_dim
    q = h * a * qk if mla.q_lora_rank is None else mla.q_lora_rank * (h + a * qk)
    kv_down = h * (mla.kv_lora_rank + mla.qk_rope_head_dim)
    kv_up = mla.kv_lora_rank * a * (mla.qk_nope_head_dim + mla.v_head_dim)
    return q + kv_down + kv_up + a * mla.v_head_dim * h


def _mamba(h: int, mamba: Mamba) -> int:
    """Count projections, the convolution with its bias, per-head constants (A, D, dt) and the gated norm."""
    projections = h * (mamba.inner + mamba.convolved + mamba.num_heads) + mamba.inner * h
    return projections + mamba.convolved * (mamba.conv_kernel + 1) + 3 * mamba.num_heads + mamba.inner


def _feed_forward(outer: int, width: int, *, gated: bool, bias: bool) -> int:
    """Count matrices and biases of a hidden layer and of its output, which is ``outer`` wide as its input."""
    matrices = 3 if gated else 2
    return matrices * outer * width + ((matrices - 1) * width + outer if bias else 0)


def _expert(model: Model) -> int:
    """Count the parameters of one routed expert."""
    if model.experts is None:
        return 0
    outer = model.experts.moe_latent_size or model.hidden_size
    width = model.experts.moe_intermediate_size
    return _feed_forward(outer, width, gated=model.gated, bias=model.linear_bias)


def _replicated(model: Model, *, has_experts: bool, block: Block) -> int:
    """Count norms, the router and the projections to and from the experts' latent width."""
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


def _projection(h: int, norm: int) -> int:
    """Count what a prediction module has besides its layers: the projection of 2h to h and three norms.

    DeepSeek-V3, arXiv:2412.19437, section 2.2, equation 21; embedding and head are shared with the model.
    """
    return 2 * h**2 + 3 * norm
