"""What a rank's compute stream waits for while it is idle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.workload.program import Floats, Ints, OpKind, Program, Stream
from simulator.workload.work import Collective

if TYPE_CHECKING:
    from simulator.engines.timeline import Timeline

CATEGORIES = (
    "compute",
    "exposed_tp",
    "exposed_cp",
    "exposed_ep",
    "exposed_pp",
    "bubble",
    "exposed_dp",
    "exposed_offload",
    "optimizer",
    "overhead",
)
COMPUTE, _TP, _CP, _EP, _PP, BUBBLE, _DP, _OFFLOAD, OPTIMIZER, OVERHEAD = range(len(CATEGORIES))
_AXES = {"dp": _DP, "edp": _DP, "ep": _EP, "cp": _CP, "tp": _TP, "etp": _TP, "pp": _PP}
_TRANSFER_STREAMS = {
    Stream.TP: _TP,
    Stream.CP: _CP,
    Stream.EP: _EP,
    Stream.HOST_OUT: _OFFLOAD,
    Stream.HOST_IN: _OFFLOAD,
    Stream.HOST: _OFFLOAD,
}
_RELATIVE_ROUNDING = 1e-12


def axis_category(axis: str) -> int:
    """Return the category (index into ``CATEGORIES``) of communication over ``axis``.

    A product of axes counts under the one that comes first in dp, ep, cp, tp, pp.

    >>> [CATEGORIES[axis_category(axis)] for axis in ("tp", "dp_cp", "tp_ep")]
    ['exposed_tp', 'exposed_dp', 'exposed_ep']
    """
    parts = axis.split("_")
    for name, category in _AXES.items():
        if name in parts:
            return category
    raise ValueError(f"group axis {axis!r} names none of {', '.join(_AXES)}")


def communication_categories(program: Program) -> Ints:
    """Return the category of each op that communicates, -1 for the others.

    A collective counts under its group's axis; a transfer under the axis of the tp, cp or ep stream that
    it runs on (ring attention), under offloading on a stream to or from the host, else under the pipeline.
    """
    of_work = [
        axis_category(work.group.axis) if isinstance(work, Collective) else -1 for work in program.works
    ]
    category = np.full(program.num_ops, -1, dtype=np.int64)
    collectives = program.kind == OpKind.COLLECTIVE
    category[collectives] = np.asarray(of_work, dtype=np.int64)[program.work[collectives]]
    transfers = program.kind == OpKind.TRANSFER
    of_stream = np.asarray([_TRANSFER_STREAMS.get(stream, _PP) for stream in Stream], dtype=np.int64)
    category[transfers] = of_stream[program.stream[transfers]]
    return category


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The wait relation of a program, as lists for quick walks.

    Attributes:
        category: Category of each communication op, -1 for other ops.
        dependency: Ops that others wait for; see ``Program``.
        dependency_start: Where those of each op begin.
        previous: Op before each one on the same rank and stream, -1 for the first.
        partners: Ops of the same join, for ops that have one.
        start_s: Start of each op.
        end_s: End of each op.
    """

    category: list[int]
    dependency: list[int]
    dependency_start: list[int]
    previous: list[int]
    partners: dict[int, list[int]]
    start_s: list[float]
    end_s: list[float]

    @classmethod
    def of(cls, timeline: Timeline) -> Waiting:
        """Read the relation off a timeline."""
        program = timeline.program
        order = np.lexsort((program.stream, program.rank))
        queue = program.rank[order] * len(Stream) + program.stream[order]
        previous = np.full(program.num_ops, -1, dtype=np.int64)
        same = queue[1:] == queue[:-1]
        previous[order[1:][same]] = order[:-1][same]
        joins: dict[int, list[int]] = {}
        joined = np.flatnonzero(program.join >= 0).tolist()
        for op, join in zip(joined, program.join[joined].tolist(), strict=True):
            joins.setdefault(join, []).append(op)
        return cls(
            category=communication_categories(program).tolist(),
            dependency=program.dependency.tolist(),
            dependency_start=program.dependency_start.tolist(),
            previous=previous.tolist(),
            partners={op: members for members in joins.values() for op in members},
            start_s=timeline.start_s.tolist(),
            end_s=timeline.end_s.tolist(),
        )

    def awaited(self, op: int, since_s: float) -> list[int]:
        """Return the communication in flight after ``since_s`` that ``op`` waits for.

        Followed are dependencies, partners of a join and, for communication, its queue; never compute: what
        another rank's compute waits for is that rank's exposed communication and this rank's bubble.
        """
        found: list[int] = []
        seen, stack = {op}, [op]
        while stack:
            current = stack.pop()
            before = self.dependency[self.dependency_start[current] : self.dependency_start[current + 1]]
            if self.previous[current] >= 0:
                before.append(self.previous[current])
            for other in (*before, *self.partners.get(current, ())):
                if other not in seen and self.category[other] >= 0 and self.end_s[other] > since_s:
                    seen.add(other)
                    found.append(other)
                    stack.append(other)
        return found

    def attribute(self, ops: list[int], low_s: float, high_s: float, seconds: Floats) -> None:
        """Add to ``seconds`` (by category) the parts of a gap during which ``ops`` are in flight.

        Where several are, the one that ends last is what the gap waits for.
        """
        cursor = high_s
        for op in sorted(ops, key=lambda op: (-self.end_s[op], op)):
            low, high = max(self.start_s[op], low_s), min(self.end_s[op], cursor)
            if high > low:
                seconds[self.category[op]] += high - low
                cursor = low


def waiting_seconds(timeline: Timeline, *, tail_transfers: bool) -> Floats:
    """Return, by rank and category, the idle seconds of the compute stream that communication explains.

    Args:
        timeline: What happened.
        tail_transfers: Whether the idle time after a rank's last compute op counts as exposed while a
            transfer of the rank is in flight; it always does while a collective is.
    """
    program, makespan = timeline.program, timeline.makespan_s
    waiting = Waiting.of(timeline)
    seconds = np.zeros((program.num_ranks, len(CATEGORIES)))
    ops = np.flatnonzero(program.stream == Stream.COMPUTE)
    ops = ops[np.argsort(program.rank[ops], kind="stable")]
    ranks, starts = program.rank[ops], timeline.start_s[ops]
    free_from = np.zeros(len(ops))
    same = ranks[1:] == ranks[:-1]
    free_from[1:][same] = timeline.end_s[ops[:-1]][same]
    for i in np.flatnonzero(starts - free_from > _RELATIVE_ROUNDING * makespan).tolist():
        low, high = float(free_from[i]), float(starts[i])
        waiting.attribute(waiting.awaited(int(ops[i]), low), low, high, seconds[ranks[i]])
    last_end = np.zeros(program.num_ranks)
    np.maximum.at(last_end, ranks, timeline.end_s[ops])
    tail = (timeline.end_s > last_end[program.rank]) & (program.kind == OpKind.COLLECTIVE)
    if tail_transfers:
        tail |= (timeline.end_s > last_end[program.rank]) & (program.kind == OpKind.TRANSFER)
    for rank in np.unique(program.rank[tail]).tolist():
        own = np.flatnonzero(tail & (program.rank == rank)).tolist()
        waiting.attribute(own, float(last_end[rank]), makespan, seconds[rank])
    return seconds
