"""The attention half of a layer: grouped-query or latent, fused or not, divided along tp and cp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from simulator.workload.layer_steps import CoreAttention, Exchange, Kernel, Step
from simulator.workload.linear import column_parallel, replicated, row_parallel
from simulator.workload.pointwise import norm, rope
from simulator.workload.work import Attention, Collective, Elementwise, Gemm, Transfer

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.shapes import Shapes


def attention_pairs(seq_length: int, window: int | None) -> float:
    """Count the query-key pairs that a causal mask, and a sliding window, leave per head and sequence.

    >>> attention_pairs(4, None), attention_pairs(4, 2)
    (10.0, 7.0)
    """
    span = seq_length if window is None else min(window, seq_length)
    return span * (span + 1) / 2 + (seq_length - span) * span


def attention_steps(scenario: Scenario, shapes: Shapes, window: int | None) -> list[Step]:
    """Return the steps from the residual stream to the attention output."""
    model = scenario.model
    steps: list[Step] = [norm(scenario, shapes, "attention_norm", model.hidden_size)]
    if model.latent_attention is not None:
        steps += _latent_projections(scenario, shapes)
        value_dim = model.latent_attention.v_head_dim
    else:
        width = (shapes.heads + 2 * shapes.kv_heads) * model.head_dim
        steps += column_parallel(scenario, shapes, "qkv", width, model.hidden_size)
        if model.qk_norm:
            steps.append(_qk_norm(scenario, shapes))
        if model.positional == "rope":
            steps.append(rope(scenario, shapes, shapes.heads + shapes.kv_heads, model.head_dim))
        value_dim = model.head_dim
    steps += _core(scenario, shapes, window)
    steps += row_parallel(scenario, shapes, "proj", model.hidden_size, shapes.heads * value_dim)
    return steps


def _qk_norm(scenario: Scenario, shapes: Shapes) -> Step:
    rows = shapes.tokens * (shapes.heads + shapes.kv_heads)
    width = rows * scenario.model.head_dim // max(1, shapes.divided_tokens)
    return norm(scenario, shapes, "qk_norm", width)


def _latent_projections(scenario: Scenario, shapes: Shapes) -> list[Step]:
    model, mla = scenario.model, scenario.model.latent_attention
    if mla is None:
        return []
    h, heads = model.hidden_size, shapes.heads
    query = heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
    key_value = heads * (mla.qk_nope_head_dim + mla.v_head_dim)
    steps: list[Step] = []
    if mla.q_lora_rank is None:
        steps += column_parallel(scenario, shapes, "q", query, h)
    else:
        steps += replicated(shapes, "q_down", mla.q_lora_rank, h)
        steps.append(norm(scenario, shapes, "q_norm", mla.q_lora_rank))
        steps += column_parallel(scenario, shapes, "q_up", query, mla.q_lora_rank)
    steps += replicated(shapes, "kv_down", mla.kv_lora_rank + mla.qk_rope_head_dim, h)
    steps.append(norm(scenario, shapes, "kv_norm", mla.kv_lora_rank))
    steps += column_parallel(scenario, shapes, "kv_up", key_value, mla.kv_lora_rank)
    steps.append(rope(scenario, shapes, heads + 1, mla.qk_rope_head_dim))
    return steps


def _dims(scenario: Scenario, shapes: Shapes) -> tuple[int, int, int]:
    """Return the widths of a query head and of a value head, and the number of key-value heads."""
    mla = scenario.model.latent_attention
    if mla is not None:
        return mla.qk_nope_head_dim + mla.qk_rope_head_dim, mla.v_head_dim, shapes.heads
    return scenario.model.head_dim, scenario.model.head_dim, shapes.kv_heads


def _core(scenario: Scenario, shapes: Shapes, window: int | None) -> list[Step]:
    qk_dim, value_dim, kv_heads = _dims(scenario, shapes)
    kv_bytes = shapes.tokens * kv_heads * (qk_dim + value_dim) * shapes.element_bytes
    saved = shapes.tokens * (shapes.heads * qk_dim) * shapes.element_bytes + kv_bytes
    if scenario.training.attention == "unfused":
        forward, backward, scores = _unfused(scenario, shapes, qk_dim, value_dim)
        core = CoreAttention(
            forward=forward, backward=backward, saved_bytes=saved + scores, recomputed_bytes=scores
        )
    else:
        log_sum_exp = 4.0 * shapes.tokens * shapes.heads
        core = CoreAttention(
            forward=(_fused(scenario, shapes, window, "forward"),),
            backward=(_fused(scenario, shapes, window, "backward"),),
            saved_bytes=saved + log_sum_exp,
            ring=_ring(scenario, shapes, kv_bytes),
            ring_steps=shapes.cp.size - 1 if scenario.parallelism.cp_comm == "ring" else 0,
        )
    if shapes.cp.size > 1 and core.ring is None:
        gather = Collective(
            kind="all_gather", group=shapes.cp, bytes=kv_bytes * shapes.cp.size, name="kv_gather"
        )
        scatter = Collective(
            kind="reduce_scatter", group=shapes.cp, bytes=kv_bytes * shapes.cp.size, name="kv_grad_reduce"
        )
        return [Exchange(forward=gather, backward=scatter, stream="cp"), core]
    return [core]


def _ring(scenario: Scenario, shapes: Shapes, kv_bytes: float) -> Transfer | None:
    if shapes.cp.size == 1 or scenario.parallelism.cp_comm != "ring":
        return None
    return Transfer(bytes=kv_bytes, stride=shapes.cp.stride, source=0, target=0)


def _fused(
    scenario: Scenario, shapes: Shapes, window: int | None, direction: Literal["forward", "backward"]
) -> Attention:
    training = scenario.training
    qk_dim, value_dim, kv_heads = _dims(scenario, shapes)
    return Attention(
        sequences=shapes.sequences,
        heads=shapes.heads,
        kv_heads=kv_heads,
        head_dim=qk_dim,
        value_dim=value_dim,
        seq_q=training.seq_length // shapes.cp.size,
        seq_kv=training.seq_length,
        pairs=attention_pairs(training.seq_length, window) / shapes.cp.size,
        kernel=training.attention,
        dtype=shapes.dtype,
        direction=direction,
    )


def _unfused(
    scenario: Scenario, shapes: Shapes, qk_dim: int, value_dim: int
) -> tuple[tuple[Kernel, ...], tuple[Kernel, ...], float]:
    """Return scores, soft-max, dropout and weighted sum as separate kernels, and the saved score bytes.

    Korthikanti et al. (arXiv:2205.05198, section 4.1): soft-max output 2as^2b, dropout mask as^2b and dropout
    output 2as^2b bytes are kept. The full square is computed: the mask saves nothing.
    """
    seq = scenario.training.seq_length
    rows = seq // shapes.cp.size
    batch, e = shapes.sequences * shapes.heads, shapes.element_bytes
    scores = batch * rows * seq
    fused = "softmax" in scenario.software.fused

    def product(name: str, m: int, n: int, k: int) -> Gemm:
        return Gemm(name=name, m=m, n=n, k=k, batch=batch, dtype=shapes.dtype)

    soft_max = scores * (2 * e if fused else 4 * e + 8)
    dropout = scores * (2 * e + 1)
    forward: tuple[Kernel, ...] = (
        product("scores", rows, seq, qk_dim),
        Elementwise(name="softmax", bytes_moved=soft_max, kernels=1 if fused else 3),
        Elementwise(name="attention_dropout", bytes_moved=dropout),
        product("context", rows, value_dim, seq),
    )
    backward: tuple[Kernel, ...] = (
        product("context_dgrad", rows, seq, value_dim),
        product("value_grad", seq, value_dim, rows),
        Elementwise(name="attention_dropout_grad", bytes_moved=dropout),
        Elementwise(name="softmax_grad", bytes_moved=scores * (3 * e if fused else 5 * e + 8)),
        product("query_grad", rows, qk_dim, seq),
        product("key_grad", seq, qk_dim, rows),
    )
    return forward, backward, scores * (2 * e + 1)
