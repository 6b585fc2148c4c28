"""The core of attention: scores, softmax and weighted sum, divided along heads and sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from simulator.workload.layers.attention_mask import heaviest_pairs
from simulator.workload.layers.context_parallel import (
    ContextSplit,
    HeldTensors,
    around_attention,
    context_split,
    key_value_gather,
    ring_message,
)
from simulator.workload.layers.operation import CoreAttention, Kernel, Pointwise, Step
from simulator.workload.layers.ring_attention import SUM_BYTES, ring_kernels
from simulator.workload.layers.unpadding import around_padding
from simulator.workload.work import Attention, Elementwise, Gemm

if TYPE_CHECKING:
    from simulator.scenario import Parallelism, Software
    from simulator.workload.layers.architecture import Architecture
    from simulator.workload.layers.attention_mask import Mask
    from simulator.workload.layers.local_sizes import LocalSizes

UNFUSED = "unfused"
"""The attention kernel that is several kernels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionOptions:
    """How attention runs.

    Attributes:
        kernel: ``unfused``, ``flash1``, ``flash2``, ``flash3`` or ``cudnn``.
        seq_length: Tokens of one sequence.
        split: How context-parallel ranks share it.
        balanced: Whether each of them holds a chunk of the sequence's front and one of its back (zig-zag).
        gathers_in_steps: Whether attention over gathered keys and values runs step by step like a ring's.
        repeats_key_values: Whether keys and values are copied for each query head that shares them.
        copies_output: Whether the result is copied into another layout for the projection behind it.
        unpads: Whether padding is taken out of its operands and put back into its result.
    """

    kernel: str
    seq_length: int
    split: ContextSplit
    balanced: bool
    gathers_in_steps: bool
    repeats_key_values: bool
    copies_output: bool
    unpads: bool

    @classmethod
    def of(
        cls, kernel: str, seq_length: int, parallelism: Parallelism, software: Software
    ) -> AttentionOptions:
        """Return how a stack runs attention, by which kernel and over how many tokens of a sequence."""
        return cls(
            kernel=kernel,
            seq_length=seq_length,
            split=context_split(
                parallelism.cp, parallelism.cp_comm, parallelism.cp_heads, is_fused=kernel != UNFUSED
            ),
            balanced=parallelism.cp_balance,
            gathers_in_steps=software.cp_gathers_in_turns,
            repeats_key_values=software.repeats_key_values,
            copies_output=software.copies_attention_output,
            unpads=kernel in software.unpads_attention,
        )

    def ring_steps(self, mask: Mask) -> int:
        """Return the steps that attention runs in: one for each part that comes, or one in all."""
        if self.kernel == UNFUSED or mask.is_narrower_than(self.seq_length):
            return 1
        return self.split.parts if self.split.ring > 1 or self.gathers_in_steps else 1


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


def rank_heads(sizes: LocalSizes, model: Architecture) -> Heads:
    """Return the heads of a tensor-parallel rank; latent attention expands keys and values per query head."""
    mla = model.latent_attention
    if mla is not None:
        qk_dim = mla.qk_nope_head_dim + mla.qk_rope_head_dim
        return Heads(query=sizes.heads, key_value=sizes.heads, qk_dim=qk_dim, value_dim=mla.v_head_dim)
    width = model.head_dim
    return Heads(query=sizes.heads, key_value=sizes.kv_heads, qk_dim=width, value_dim=width)


def core_attention(
    sizes: LocalSizes,
    heads: Heads,
    options: AttentionOptions,
    mask: Mask,
    fused: frozenset[str],
    *,
    has_dropout: bool,
) -> list[Step]:
    """Return the attention core and what context-parallel ranks exchange around it.

    Args:
        sizes: Sizes of the rank's share.
        heads: Heads of a tensor-parallel rank.
        options: How attention runs.
        mask: What each query attends to.
        fused: Operations that run as one kernel.
        has_dropout: Whether an unfused core drops some of its probabilities.
    """
    repeat: list[Step] = []
    if options.repeats_key_values and heads.query // heads.key_value > 1:
        repeat = [_repeated(sizes, heads)]
        heads = replace(heads, key_value=heads.query)
    split = options.split
    head_bytes = sizes.tokens * sizes.element_bytes
    held = HeldTensors(
        query=head_bytes * heads.query * heads.qk_dim,
        key_value=head_bytes * heads.key_value * (heads.qk_dim + heads.value_dim),
        result=head_bytes * heads.query * heads.value_dim,
    )
    core_heads = heads.over(split.heads)
    if options.kernel == UNFUSED:
        has_fused = "softmax" in fused
        core = _unfused(sizes, core_heads, options, held, fused=has_fused, has_dropout=has_dropout)
    else:
        core = _fused(sizes, core_heads, options, held, mask)
    before, after = around_attention(sizes, split, held, ring_steps=options.ring_steps(mask))
    if options.unpads:
        unpad, pad = around_padding(held)
        before, after = [unpad, *before], [*after, pad]
    return [*repeat, *before, core, *after]


def _repeated(sizes: LocalSizes, heads: Heads) -> Step:
    """Return the copies of keys and values for each query head.

    Backward, the gradients of the copies are read and summed.
    """
    shared = heads.query // heads.key_value
    size = sizes.tokens * sizes.element_bytes * heads.key_value * (heads.qk_dim + heads.value_dim)
    copied = (1 + shared) * size
    forward = Elementwise(name="key_value_repeat", bytes_moved=copied, kernels=2)
    backward = Elementwise(name="key_value_repeat_grad", bytes_moved=copied, kernels=2)
    return Pointwise(forward=(forward,), backward=(backward,))


def _fused(
    sizes: LocalSizes, heads: Heads, options: AttentionOptions, held: HeldTensors, mask: Mask
) -> CoreAttention:
    """Return one kernel each way, or one for every step of the ring."""
    split, balanced = options.split, options.balanced
    forward, backward = (
        _kernel(sizes, heads, options, mask, direction) for direction in ("forward", "backward")
    )
    steps, in_fp32 = options.ring_steps(mask), split.ring == 1
    rings = [
        ring_kernels(work, steps, balanced=balanced, element_bytes=sizes.element_bytes, in_fp32=in_fp32)
        for work in (forward, backward)
        if steps > 1
    ]
    message = held.key_value * (SUM_BYTES / sizes.element_bytes if in_fp32 else 1.0)
    # The kernel keeps its result, too; only a low-precision projection, or one behind a change of layout,
    # keeps another copy of it.
    has_copy = sizes.quantisation is not None or options.copies_output
    own_output = held.result if has_copy else 0.0
    log_sum_exp = 4.0 * sizes.tokens * sizes.heads
    inputs = held.query + held.key_value
    return CoreAttention(
        forward=(forward,),
        backward=(backward,),
        saved_bytes=inputs + own_output + log_sum_exp,
        recomputed_bytes=own_output + log_sum_exp,
        input_bytes=inputs,
        output_bytes=held.result,
        ring=ring_message(sizes, split, message) if rings else None,
        gather=key_value_gather(sizes, held.key_value) if rings and in_fp32 else None,
        ring_forward=rings[0] if rings else (),
        ring_backward=rings[1] if rings else (),
    )


def _kernel(
    sizes: LocalSizes,
    heads: Heads,
    options: AttentionOptions,
    mask: Mask,
    direction: Literal["forward", "backward"],
) -> Attention:
    seq_length, parts = options.seq_length, options.split.parts
    queries = seq_length // parts
    return Attention(
        sequences=sizes.sequences,
        heads=heads.query,
        kv_heads=heads.key_value,
        head_dim=heads.qk_dim,
        value_dim=heads.value_dim,
        seq_q=queries,
        seq_kv=_visible_keys(options, queries, mask),
        pairs=heaviest_pairs(mask, seq_length, parts, balanced=options.balanced),
        kernel=options.kernel,
        dtype=sizes.dtype,
        direction=direction,
    )


def _visible_keys(options: AttentionOptions, queries: int, mask: Mask) -> int:
    """Return the keys that a rank's queries can see: a window reaches back from each chunk of them."""
    chunks = 2 if options.balanced and options.split.parts > 1 else 1
    reach = min(mask.window or options.seq_length, mask.chunk or options.seq_length)
    return min(options.seq_length, queries + chunks * reach)


def _unfused(
    sizes: LocalSizes,
    heads: Heads,
    options: AttentionOptions,
    held: HeldTensors,
    *,
    fused: bool,
    has_dropout: bool,
) -> CoreAttention:
    """Return scores, softmax, dropout and weighted sum as separate kernels.

    Korthikanti et al. (arXiv:2205.05198, section 4.1): softmax output 2as^2b, dropout mask as^2b and dropout
    output 2as^2b bytes are kept. The full square is computed: the mask saves nothing. Eager softmax works in
    fp32, keeps its output in that, and a cast of it. Models without biases are trained without dropout.
    """
    seq = options.seq_length
    rows = seq // options.split.parts
    batch, e = sizes.sequences * heads.query, sizes.element_bytes
    scores = batch * rows * seq

    def product(name: str, m: int, n: int, k: int) -> Gemm:
        return Gemm(name=name, m=m, n=n, k=k, batch=batch, dtype=sizes.dtype)

    softmax = scores * (2 * e if fused else 4 * e + 8)
    dropout = scores * (2 * e + 1)
    forward: tuple[Kernel, ...] = (
        product("scores", rows, seq, heads.qk_dim),
        Elementwise(name="softmax", bytes_moved=softmax, kernels=1 if fused else 3),
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
