"""How a step ends, rank by rank: gradients are agreed on and clipped, weights updated.

    dp reduce   ... reduce 0   (amax)   (stage copies)   (tied embeddings)   norm
    compute                                                                        optimizer  casts  overhead

What stands in brackets only some scenarios have. The gradient norm joins all ranks, the sum of tied
embeddings the ranks of the first and of the last stage, the sum of a stage's copies the two ranks that hold
it (DualPipe). Part of the optimizer step may go through host memory (ZeRO-Offload, arXiv:2101.06840): bucket
by bucket, copies overlapping with updates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.schedules.op_kind import OpKind
from simulator.workload.program import Program, Stream
from simulator.workload.step.slots import RankSlot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from simulator.workload.program import Ints
    from simulator.workload.step.inputs import LayoutInputs, OffloadedUpdate
    from simulator.workload.step.slots import Holding, Slots

_TIED_EMBEDDINGS, _GRADIENT_NORM = 0, 1
_FIRST_STAGE_COPY = 1_000
"""Joins of stage copies are numbered from here; smaller numbers belong to the end of the step."""


@dataclass(slots=True, kw_only=True)
class EndOps:
    """Ops at the end of a step, as rows, with what they wait for.

    Attributes:
        first: Index of the first of them in the step.
        rows: Kind, rank, stream, slot and join of each.
        waiting: [edge] Op that waits.
        awaited: [edge] Op that it waits for.
    """

    first: int
    rows: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    waiting: list[Ints] = field(default_factory=list)
    awaited: list[Ints] = field(default_factory=list)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns of a Program."""
        kind, rank, stream, slot, join = np.array(self.rows, dtype=np.int64).T
        none, nothing = np.full(len(kind), -1), np.zeros(len(kind))
        return {
            "kind": kind,
            "rank": rank,
            "stream": stream,
            "work": slot,
            "microbatch": none,
            "stage": none,
            "join": join,
            "allocated_bytes": nothing,
            "freed_bytes": nothing,
        }

    def add(
        self, kind: OpKind, rank: int, stream: Stream, slot: int, after: Ints | Sequence[int], join: int = -1
    ) -> int:
        """Append an op and return its index in the step."""
        op = self.first + len(self.rows)
        self.rows.append((kind, rank, stream, slot, join))
        self.awaited.append(np.asarray(after, dtype=np.int64))
        self.waiting.append(np.full(len(after), op))
        return op


def end_ops(
    inputs: LayoutInputs, slots: Slots, holdings: Sequence[Holding], before: list[Ints], first: int
) -> EndOps:
    """Lay out what every rank does after its last backward pass.

    Args:
        inputs: The step.
        slots: Where costs are found.
        holdings: Stages that ranks hold.
        before: By rank, the reductions of its gradients and its last pass.
        first: Index of the first op of the end.
    """
    ops, end = EndOps(first=first), inputs.end
    before = list(before)
    if end.amax_history:
        for rank, ready in enumerate(before):
            for slot in (RankSlot.AMAX_FORWARD, RankSlot.AMAX_BACKWARD):
                op = _reduce(ops, slots, rank, slot, before[rank])
                before[rank] = np.append(ready if slot is RankSlot.AMAX_FORWARD else before[rank], op)
    _sum_stage_copies(ops, slots, holdings, before)
    if end.tied_embeddings:
        _sum_tied_embeddings(ops, slots, holdings, before)
    for rank in range(inputs.pipeline.pp):
        ready = before[rank]
        if end.gradient_norm:
            ready = np.array([_reduce(ops, slots, rank, RankSlot.GRADIENT_NORM, ready, _GRADIENT_NORM)])
        if end.updates_on_gpu:
            _compute(ops, slots, rank, OpKind.OPTIMIZER, RankSlot.OPTIMIZER, ready)
        arrived = append_offloaded_update(ops, slots, rank, end.offloaded, ready)
        if end.casts_weights[rank]:
            arrived = [_compute(ops, slots, rank, OpKind.OPTIMIZER, RankSlot.WEIGHT_CASTS, arrived)]
        _compute(ops, slots, rank, OpKind.OVERHEAD, RankSlot.STEP_OVERHEAD, arrived)
    return ops


def _reduce(ops: EndOps, slots: Slots, rank: int, slot: RankSlot, after: Ints, join: int = -1) -> int:
    at = int(slots.of_rank(rank, slot))
    return ops.add(OpKind.COLLECTIVE, rank, Stream.DP_REDUCE, at, after, join)


def _compute(
    ops: EndOps, slots: Slots, rank: int, kind: OpKind, slot: RankSlot, after: Ints | Sequence[int]
) -> int:
    return ops.add(kind, rank, Stream.COMPUTE, int(slots.of_rank(rank, slot)), after)


def _sum_stage_copies(ops: EndOps, slots: Slots, holdings: Sequence[Holding], before: list[Ints]) -> None:
    """Sum the gradients of stages that two ranks hold."""
    for first, second in zip(range(len(holdings)), range(1, len(holdings)), strict=False):
        if holdings[first].stage != holdings[second].stage:
            continue
        for holding in (first, second):
            stage, rank = holdings[holding]
            slot = holding * slots.per_holding + slots.stage_copy
            join = _FIRST_STAGE_COPY + stage
            op = ops.add(OpKind.COLLECTIVE, rank, Stream.DP_REDUCE, slot, before[rank], join)
            before[rank] = np.array([op])


def _sum_tied_embeddings(ops: EndOps, slots: Slots, holdings: Sequence[Holding], before: list[Ints]) -> None:
    """Sum the gradients of a table of which the first and the last stage hold copies (Megatron-LM)."""
    stages = [held.stage for held in holdings]
    ranks = [holdings[stages.index(stage)].rank for stage in (0, max(stages))]
    if ranks[0] == ranks[1]:  # it holds one table for both stages
        return
    for rank in ranks:
        op = _reduce(ops, slots, rank, RankSlot.TIED_EMBEDDINGS, before[rank], _TIED_EMBEDDINGS)
        before[rank] = np.array([op])


def append_offloaded_update(
    ops: EndOps, slots: Slots, rank: int, offloaded: OffloadedUpdate | None, after: Ints | Sequence[int]
) -> list[int]:
    """Append the part of a rank's optimizer step that goes through host memory, if any.

    The host updates (gradients out, state read and written, weights in), or state is streamed through the
    GPU.

    Returns:
        What ends when the last weights have come back from the host.
    """
    if offloaded is None:
        return []
    update = OpKind.TRANSFER if offloaded.on_host else OpKind.OPTIMIZER
    out = (OpKind.TRANSFER, Stream.HOST_OUT, RankSlot.OFFLOAD_OUT)
    into = (OpKind.TRANSFER, Stream.HOST_IN, RankSlot.OFFLOAD_IN)
    changed = (update, Stream.HOST if offloaded.on_host else Stream.COMPUTE, RankSlot.OFFLOAD_UPDATE)
    chain = (out, changed, into) if offloaded.on_host else (into, changed, out)
    start, done = after, after
    for _ in range(offloaded.buckets[rank]):
        done = start
        for kind, stream, slot in chain:
            done = [ops.add(kind, rank, stream, int(slots.of_rank(rank, slot)), done)]
        if not offloaded.overlaps:
            start = done
    return [int(op) for op in done]


def update_program(offloaded: OffloadedUpdate, slots: Slots) -> Program:
    """Return the optimizer step of one rank by itself; the work of its ops is their slot."""
    ops = EndOps(first=0)
    _compute(ops, slots, 0, OpKind.OPTIMIZER, RankSlot.OPTIMIZER, ())
    append_offloaded_update(ops, slots, 0, offloaded, ())
    return Program.of(
        ops.columns(),
        waiting=np.concatenate(ops.waiting),
        awaited=np.concatenate(ops.awaited),
        works=(),
        rank_names=("rank",),
    )
