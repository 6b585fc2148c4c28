"""Floating-point operations of a training step, in the conventions that publications use.

Matrix multiplications are counted one by one (2 per multiply-add, backward twice forward); the embedding
look-up, norms and other element-wise work are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

from simulator.scenario.parameters import ModelParameters, prediction_layers

if TYPE_CHECKING:
    from simulator.scenario.model import Block, Model
    from simulator.scenario.training import Training

Convention = Literal["causal", "full", "recompute", "palm", "6n"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)
DEFAULT_CONVENTION: Convention = "causal"
CONVENTION_TEXTS: dict[Convention, str] = {
    "causal": "attention halved for causality, recompute not counted (Megatron-Core >= 0.12)",
    "full": "attention in full, recompute not counted (Megatron-Core <= 0.11)",
    "recompute": "attention in full, recomputed forward passes counted (arXiv:2104.04473, eq. 3)",
    "palm": "6 N + 12 L h s per token, N all active parameters (arXiv:2204.02311, appendix B)",
    "6n": "6 N per token, N all active parameters (arXiv:2001.08361)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardFlops:
    """FLOPs of the forward pass per token, all layers together.

    Attributes:
        layers: Projections, feed-forward blocks, active experts and routers.
        attention_full: The attention core with every query attending to all keys (of its window).
        attention_causal: The attention core with the pairs that the causal mask leaves.
        attention_dense: The attention core of an unfused kernel, which computes masked pairs too.
        head: The vocabulary head, once more per multi-token-prediction layer.
    """

    layers: float
    attention_full: float
    attention_causal: float
    attention_dense: float
    head: float


def causal_pairs(seq_length: int, window: int | None) -> float:
    """Return the query-key pairs that a causal mask leaves, the diagonal halved as Megatron-Core does.

    >>> causal_pairs(8192, None) / 8192**2, causal_pairs(8192, 4096) / 8192**2
    (0.5, 0.375)
    """
    width = seq_length if window is None else min(window, seq_length)
    return width * (seq_length - width / 2)


def _projection_weights(model: Model, block: Block) -> float:
    """Return the weights of one layer's attention projections, or of its Mamba-2 layer."""
    if block == "M":
        return _mamba_weights(model)
    if block not in {"layer", "*"}:
        return 0
    h, a, kv, d = model.hidden_size, model.num_attention_heads, model.num_key_value_heads, model.head_dim
    mla = model.latent_attention
    if mla is None:
        return h * d * (a + 2 * kv) + a * d * h
    qk = mla.qk_nope_head_dim + mla.qk_rope_head_dim
    query = h * a * qk if mla.q_lora_rank is None else mla.q_lora_rank * (h + a * qk)
    down = h * (mla.kv_lora_rank + mla.qk_rope_head_dim)
    up = mla.kv_lora_rank * a * (mla.qk_nope_head_dim + mla.v_head_dim)
    return query + down + up + a * mla.v_head_dim * h


def _mamba_weights(model: Model) -> float:
    """Return a Mamba-2 layer's weights, its scan counted as so many multiply-adds per token.

    Megatron-Core counts 7 x inner width x state size FLOPs for the scan (``mamba_layer_flops``,
    megatron/training/training.py): half as many multiply-adds.
    """
    if model.mamba is None:
        return 0.0
    mamba, h = model.mamba, model.hidden_size
    projections = h * (mamba.inner + mamba.convolved + mamba.num_heads) + mamba.inner * h
    return projections + 3.5 * mamba.inner * mamba.state_size


def _feed_forward_weights(model: Model, block: Block, *, has_experts: bool) -> int:
    """Return the weights that one token meets in the feed-forward block of a layer, router included."""
    matrices = 3 if model.gated else 2
    experts = model.experts
    if experts is not None and has_experts:
        outer = experts.moe_latent_size or model.hidden_size
        routed = experts.num_experts_per_tok * matrices * outer * experts.moe_intermediate_size
        shared = experts.num_shared_experts * matrices * model.hidden_size * experts.moe_intermediate_size
        latent = 2 * model.hidden_size * (experts.moe_latent_size or 0)
        return routed + shared + latent + model.hidden_size * experts.num_experts
    return matrices * model.hidden_size * model.intermediate_size if block in {"layer", "-"} else 0


def _pair_flops(model: Model) -> float:
    """Return the attention core's FLOPs per query-key pair, all heads: 2 (d_qk + d_v)."""
    mla = model.latent_attention
    if mla is None:
        return 4.0 * model.num_attention_heads * model.head_dim
    qk = mla.qk_nope_head_dim + mla.qk_rope_head_dim
    return 2.0 * model.num_attention_heads * (qk + mla.v_head_dim)


@lru_cache(maxsize=256)
def forward_flops(model: Model, seq_length: int) -> ForwardFlops:
    """Count the forward pass per token.

    A multi-token-prediction module is a projection of 2h to h, one more layer of the last kind and the
    shared head again (arXiv:2412.19437, section 2.2).
    """
    last = model.num_hidden_layers - 1
    predictions = prediction_layers(model) * model.num_nextn_predict_layers
    layers = [(model.block(layer), model.is_moe_layer(layer)) for layer in range(last + 1)] + predictions
    weights = sum(
        _projection_weights(model, block) + _feed_forward_weights(model, block, has_experts=has_experts)
        for block, has_experts in layers
    )
    weights += model.num_nextn_predict_layers * 2 * model.hidden_size**2
    numbers = [*range(last + 1), *[last] * len(predictions)]
    attending = [
        number for number, (block, _) in zip(numbers, layers, strict=True) if block in {"layer", "*"}
    ]
    windows = [model.window(layer) for layer in attending]
    per_pair = _pair_flops(model)
    keys = sum(seq_length if window is None else min(window, seq_length) for window in windows)
    pairs = sum(causal_pairs(seq_length, window) for window in windows)
    return ForwardFlops(
        layers=2.0 * weights,
        attention_full=per_pair * keys,
        attention_causal=per_pair * pairs / seq_length,
        attention_dense=per_pair * seq_length * len(attending),
        head=2.0 * model.hidden_size * model.vocab_size * (1 + model.num_nextn_predict_layers),
    )


def _recomputed(forward: ForwardFlops, attention: float, training: Training) -> float:
    """Return the forward FLOPs per token that the backward pass runs again."""
    if training.recompute == "full":
        return forward.layers + attention
    return attention if training.recompute == "selective" else 0.0


def flops_per_token(model: Model, training: Training, convention: Convention = DEFAULT_CONVENTION) -> float:
    """Return the model FLOPs of training on one token, forward and backward.

    Args:
        model: The model.
        training: Its sequence length, and what it recomputes (for ``recompute`` only).
        convention: What is counted; see ``CONVENTION_TEXTS``.
    """
    if convention == "6n":
        return 6.0 * ModelParameters.of(model).active
    forward = forward_flops(model, training.seq_length)
    if convention == "palm":
        return 6.0 * ModelParameters.of(model).active + 3 * forward.attention_full
    if convention == "causal":
        return 3 * (forward.layers + forward.attention_causal + forward.head)
    flops = 3 * (forward.layers + forward.attention_full + forward.head)
    if convention == "recompute":
        flops += _recomputed(forward, forward.attention_full, training)
    return flops


def hardware_flops_per_token(model: Model, training: Training) -> float:
    """Return the FLOPs that the kernels execute per token, for the hardware utilisation (HFU).

    Recomputed forward passes count as configured. An unfused attention core computes masked pairs too; a
    fused one skips them and computes the scores again in its backward pass, 2.5 times the forward FLOPs in
    all (Dao, arXiv:2307.08691, section 4.1).
    """
    forward = forward_flops(model, training.seq_length)
    if training.attention == "unfused":
        attention, backward = forward.attention_dense, 2.0
    else:
        attention, backward = forward.attention_causal, 2.5
    executed = 3 * (forward.layers + forward.head) + (1 + backward) * attention
    return executed + _recomputed(forward, attention, training)


def tokens_per_step(training: Training) -> int:
    """Return the tokens of one step."""
    return training.global_batch_size * training.seq_length


def model_flops_per_step(
    model: Model, training: Training, convention: Convention = DEFAULT_CONVENTION
) -> float:
    """Return the model FLOPs of one step of the whole job."""
    return flops_per_token(model, training, convention) * tokens_per_step(training)


def hardware_flops_per_step(model: Model, training: Training) -> float:
    """Return the executed FLOPs of one step of the whole job."""
    return hardware_flops_per_token(model, training) * tokens_per_step(training)
