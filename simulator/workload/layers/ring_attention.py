"""The steps of ring attention: what a rank computes on each part of keys and values that comes round.

With zig-zag balance every rank holds one chunk of the sequence's front half and one of its back half. On its
own keys it computes the causal pairs. Keys of an earlier rank are seen in their front half by all queries,
keys of a later rank in full by the back half of the queries (Transformer Engine's ``AttnFuncWithCPAndKVP2P``,
Megatron-Core's default): the same pairs either way. Contiguous parts instead leave the last rank a full block
in each step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.workload.work import Attention, Elementwise

if TYPE_CHECKING:
    from simulator.workload.layers.operation import Kernel

SUM_BYTES = 4
"""Results of several steps are added in fp32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingStep:
    """The shape of one step, as shares of the rank's own positions.

    Attributes:
        queries: Share of its queries that see anything.
        keys: Share of the visiting keys that they see.
        weight: Its query-key pairs over those of a full block.
    """

    queries: float
    keys: float
    weight: float


def ring_steps(ranks: int, *, balanced: bool) -> tuple[RingStep, ...]:
    """Return the steps of the rank that others wait for, its own keys first; the diagonal counts half."""
    own = RingStep(queries=1.0, keys=1.0, weight=0.5)
    if not balanced:
        return own, *[RingStep(queries=1.0, keys=1.0, weight=1.0)] * (ranks - 1)
    earlier, later = RingStep(queries=1.0, keys=0.5, weight=0.5), RingStep(queries=0.5, keys=1.0, weight=0.5)
    before = ranks // 2
    return own, *[earlier] * before, *[later] * (ranks - 1 - before)


def ring_kernels(
    work: Attention, ranks: int, *, balanced: bool, element_bytes: float, in_fp32: bool
) -> tuple[tuple[Kernel, ...], ...]:
    """Divide an attention kernel over a rank's ``work.seq_q`` queries and all keys among its ring steps.

    The pairs of all steps sum to ``work.pairs``; each step's result is merged with those before it, in fp32
    by PyTorch's eager kernels or as Transformer Engine does.
    """
    steps = ring_steps(ranks, balanced=balanced)
    own = work.seq_q
    full = own * own
    share = work.pairs / sum(step.weight for step in steps)
    others = [min(full, share) * step.weight for step in steps[1:]]
    pairs = [work.pairs - sum(others), *others]
    kernels: list[tuple[Kernel, ...]] = []
    for step, step_pairs in zip(steps, pairs, strict=True):
        kernel = replace(
            work, seq_q=round(own * step.queries), seq_kv=round(own * step.keys), pairs=step_pairs
        )
        merge = _eager_merge(kernel, element_bytes) if in_fp32 else _fused_merge(kernel, element_bytes)
        kernels.append((kernel, merge))
    return tuple(kernels)


def _elements(step: Attention) -> tuple[float, float]:
    """Return the rows of queries and of keys of all heads."""
    return step.sequences * step.heads * step.seq_q, step.sequences * step.kv_heads * step.seq_kv


def _fused_merge(step: Attention, element_bytes: float) -> Elementwise:
    """Merge one step's results with those of the steps before it.

    Forward a result is read and added to an fp32 sum; backward the gradients of queries, keys and values are
    read and added to sums of their own format (Transformer Engine, ``flash_attn_fwd_out_correction``).
    """
    queries, keys = _elements(step)
    size = queries * step.value_dim * (element_bytes + 2 * SUM_BYTES)
    if step.direction == "backward":
        size = (queries * step.head_dim + keys * (step.head_dim + step.value_dim)) * 3 * element_bytes
    return Elementwise(name="ring_merge", bytes_moved=size)


def _eager_merge(step: Attention, element_bytes: float) -> Elementwise:
    """Merge in eager fp32 kernels (PyTorch's ``_SDPAMerger`` and ``_templated_ring_attention_backward``).

    Forward: a cast, a difference, a product and a difference again, 8 fp32 passes beside the result's own.
    Backward: gradients are added to fp32 sums, those of keys and values also copied into one message.
    """
    queries, keys = _elements(step)
    if step.direction == "forward":
        size = queries * step.value_dim * (element_bytes + 9 * SUM_BYTES)
        return Elementwise(name="ring_merge", bytes_moved=size, kernels=4)
    added = element_bytes + 2 * SUM_BYTES
    size = queries * step.head_dim * added
    size += keys * (step.head_dim + step.value_dim) * (added + 2 * SUM_BYTES)
    return Elementwise(name="ring_merge", bytes_moved=size, kernels=4)
