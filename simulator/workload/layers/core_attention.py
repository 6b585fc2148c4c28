"""The core of attention: scores, soft-max and weighted sum, divided along heads and sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from simulator.workload.layers.attention_mask import heaviest_pairs
from simulator.workload.layers.context_parallel import (
    HeldTensors,
    around_attention,
    context_split,
    key_value_gather,
    ring_message,
)
from simulator.workload.layers.operation import CoreAttention, Kernel, Pointwise, Step
from simulator.workload.layers.ring_attention import SUM_BYTES, ring_turns
from simulator.workload.layers.unpadding import around_padding
from simulator.workload.work import Attention, Elementwise, Gemm

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.layers.attention_mask import Mask
    from simulator.workload.layers.context_parallel import ContextSplit
    from simulator.workload.layers.local_sizes import Shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Heads of one rank: how many and how wide.

    Attributes:
        query: Query heads.
        key_value: Heads of keys and values.
        qk_dim: Width of a query or key head.
        value_dim: Width of a value head.
    """

    query: int
    key_value: int
    qk_dim: int
    value_dim: int

    def over(self, ranks: int) -> Heads:
        """Return the heads of one of ``ranks`` ranks that divide these among them."""
        return Heads(
            query=self.query // ranks,
            key_value=self.key_value // ranks,
            qk_dim=self.qk_dim,
            value_dim=self.value_dim,
        )


def rank_heads(scenario: Scenario, shapes: Shapes) -> Heads:
    """Return the heads of a tensor-parallel rank; latent attention expands keys and values per query head."""
    mla = scenario.model.latent_attention
    if mla is not None:
        qk_dim = mla.qk_nope_head_dim + mla.qk_rope_head_dim
        return Heads(query=shapes.heads, key_value=shapes.heads, qk_dim=qk_dim, value_dim=mla.v_head_dim)
    width = scenario.model.head_dim
    return Heads(query=shapes.heads, key_value=shapes.kv_heads, qk_dim=width, value_dim=width)


def core_attention(scenario: Scenario, shapes: Shapes, mask: Mask) -> list[Step]:
    """Return the attention core and what context-parallel ranks exchange around it."""
    heads, repeat = _repeated(scenario, shapes, rank_heads(scenario, shapes))
    split = context_split(scenario)
    each = shapes.tokens * shapes.element_bytes
    held = HeldTensors(
        query=each * heads.query * heads.qk_dim,
        key_value=each * heads.key_value * (heads.qk_dim + heads.value_dim),
        result=each * heads.query * heads.value_dim,
    )
    if scenario.training.attention == "unfused":
        core = _unfused(scenario, shapes, heads.over(split.heads), split, held)
    else:
        core = _fused(scenario, shapes, heads.over(split.heads), split, held, mask)
    turns = split.turns(scenario, mask)
    before, after = around_attention(shapes, split, held, turns=turns)
    unpad, pad = around_padding(scenario, held)
    return [*repeat, *unpad, *before, core, *after, *pad]


def _repeated(scenario: Scenario, shapes: Shapes, heads: Heads) -> tuple[Heads, list[Step]]:
    """Return the heads that attention sees where keys and values are copied for each query head first.

    Backward, the gradients of the copies are read and summed.
    """
    shared = heads.query // heads.key_value
    if not scenario.software.repeats_key_values or shared == 1:
        return heads, []
    size = shapes.tokens * shapes.element_bytes * heads.key_value * (heads.qk_dim + heads.value_dim)
    copied = (1 + shared) * size
    there = Elementwise(name="key_value_repeat", bytes_moved=copied, kernels=2)
    back = Elementwise(name="key_value_repeat_grad", bytes_moved=copied, kernels=2)
    return replace(heads, key_value=heads.query), [Pointwise(forward=(there,), backward=(back,))]


def _fused(
    scenario: Scenario, shapes: Shapes, heads: Heads, split: ContextSplit, held: HeldTensors, mask: Mask
) -> CoreAttention:
    """Return one kernel each way, or one for every turn of the ring."""
    balanced = scenario.parallelism.cp_balance
    forward, backward = (
        _kernel(scenario, shapes, heads, split, mask, direction) for direction in ("forward", "backward")
    )
    turns, in_fp32 = split.turns(scenario, mask), split.ring == 1
    rings = [
        ring_turns(work, turns, balanced=balanced, element_bytes=shapes.element_bytes, in_fp32=in_fp32)
        for work in (forward, backward)
        if turns > 1
    ]
    message = held.key_value * (SUM_BYTES / shapes.element_bytes if in_fp32 else 1.0)
    # The kernel keeps its result, too; only a low-precision projection, or one behind a change of layout,
    # keeps another copy of it.
    has_copy = shapes.quantisation is not None or scenario.software.copies_attention_output
    own_output = held.result if has_copy else 0.0
    log_sum_exp = 4.0 * shapes.tokens * shapes.heads
    inputs = held.query + held.key_value
    return CoreAttention(
        forward=(forward,),
        backward=(backward,),
        saved_bytes=inputs + own_output + log_sum_exp,
        recomputed_bytes=own_output + log_sum_exp,
        input_bytes=inputs,
        output_bytes=held.result,
        ring=ring_message(shapes, split, message) if rings else None,
        gather=key_value_gather(shapes, held.key_value) if rings and in_fp32 else None,
        ring_forward=rings[0] if rings else (),
        ring_backward=rings[1] if rings else (),
    )


def _kernel(
    scenario: Scenario,
    shapes: Shapes,
    heads: Heads,
    split: ContextSplit,
    mask: Mask,
    direction: Literal["forward", "backward"],
) -> Attention:
    training, balanced = scenario.training, scenario.parallelism.cp_balance
    queries = training.seq_length // split.parts
    return Attention(
        sequences=shapes.sequences,
        heads=heads.query,
        kv_heads=heads.key_value,
        head_dim=heads.qk_dim,
        value_dim=heads.value_dim,
        seq_q=queries,
        seq_kv=_visible_keys(training.seq_length, queries, split, mask, balanced=balanced),
        pairs=heaviest_pairs(mask, training.seq_length, split.parts, balanced=balanced),
        kernel=training.attention,
        dtype=shapes.dtype,
        direction=direction,
    )


def _visible_keys(seq_length: int, queries: int, split: ContextSplit, mask: Mask, *, balanced: bool) -> int:
    """Return the keys that a rank's queries can see: a window reaches back from each piece of them."""
    pieces = 2 if balanced and split.parts > 1 else 1
    reach = min(mask.window or seq_length, mask.chunk or seq_length)
    return min(seq_length, queries + pieces * reach)


def _unfused(
    scenario: Scenario, shapes: Shapes, heads: Heads, split: ContextSplit, held: HeldTensors
) -> CoreAttention:
    """Return scores, soft-max, dropout and weighted sum as separate kernels.

    Korthikanti et al. (arXiv:2205.05198, section 4.1): soft-max output 2as^2b, dropout mask as^2b and dropout
    output 2as^2b bytes are kept. The full square is computed: the mask saves nothing. Eager soft-max works in
    fp32, keeps its output in that, and a cast of it. Models without biases are trained without dropout.
    """
    seq = scenario.training.seq_length
    rows = seq // split.parts
    batch, e = shapes.sequences * heads.query, shapes.element_bytes
    scores = batch * rows * seq
    fused = "softmax" in scenario.software.fused

    def product(name: str, m: int, n: int, k: int) -> Gemm:
        return Gemm(name=name, m=m, n=n, k=k, batch=batch, dtype=shapes.dtype)

    has_dropout = scenario.model.linear_bias
    soft_max = scores * (2 * e if fused else 4 * e + 8)
    dropout = scores * (2 * e + 1)
    forward: tuple[Kernel, ...] = (
        product("scores", rows, seq, heads.qk_dim),
        Elementwise(name="softmax", bytes_moved=soft_max, kernels=1 if fused else 3),
        *([Elementwise(name="attention_dropout", bytes_moved=dropout)] if has_dropout else []),
        product("context", rows, heads.value_dim, seq),
    )
    backward: tuple[Kernel, ...] = (
        product("context_dgrad", rows, seq, heads.value_dim),
        product("value_grad", seq, heads.value_dim, rows),
        *([Elementwise(name="attention_dropout_grad", bytes_moved=dropout)] if has_dropout else []),
        Elementwise(name="softmax_grad", bytes_moved=scores * (3 * e if fused else 5 * e + 8)),
        product("query_grad", rows, heads.qk_dim, seq),
        product("key_grad", seq, heads.qk_dim, rows),
    )
    inputs = held.query + held.key_value
    kept = scores * ((e if fused else 4 + e) + (e + 1 if has_dropout and fused else 1 if has_dropout else 0))
    # Heads come out one after the other: a copy puts those of a token side by side, and back.
    copied = Elementwise(name="context_copy", bytes_moved=2.0 * held.result)
    return CoreAttention(
        forward=(*forward, copied),
        backward=(copied, *backward),
        saved_bytes=inputs + kept,
        recomputed_bytes=kept,
        input_bytes=inputs,
        output_bytes=held.result,
        working_bytes=scores * 2 * (e if fused else 4),
    )
