"""What a rank's compute stream waits for while it is idle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.engines.graph import stream_order
from simulator.workload.program import Floats, Ints, OpKind, Program, Stream
from simulator.workload.ragged import ranges
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
    """The wait relation of a program: of each op its dependencies, its predecessor and its partners.

    Attributes:
        timeline: When ops ran.
        category: Category of each communication op, -1 for other ops.
        previous: Op before each one on the same rank and stream, -1 for the first.
        partner_start: Where the ops of the join of each op begin in ``partner``, itself included.
        partner_count: How many they are.
        partner: Ops of joins, join by join.
    """

    timeline: Timeline
    category: Ints
    previous: Ints
    partner_start: Ints
    partner_count: Ints
    partner: Ints

    @classmethod
    def of(cls, timeline: Timeline) -> Waiting:
        """Read the relation off a timeline."""
        program = timeline.program
        previous = np.full(program.num_ops, -1, dtype=np.int64)
        earlier, later = stream_order(program)
        previous[later] = earlier
        joined = np.flatnonzero(program.join >= 0)
        partner = joined[np.argsort(program.join[joined], kind="stable")]
        _, first, which, sizes = np.unique(
            program.join[partner], return_index=True, return_inverse=True, return_counts=True
        )
        start, count = np.zeros((2, program.num_ops), dtype=np.int64)
        start[partner], count[partner] = first[which], sizes[which]
        return cls(
            timeline=timeline,
            category=communication_categories(program),
            previous=previous,
            partner_start=start,
            partner_count=count,
            partner=partner,
        )

    def awaited(self, ops: Ints, since_s: Floats) -> tuple[Ints, Ints]:
        """Return the communication in flight after ``since_s`` that each of some ops waits for.

        Followed are dependencies, partners of a join and, for communication, its queue; never compute: what
        another rank's compute waits for is that rank's exposed communication and this rank's bubble.

        Returns:
            Pairs of a place in ``ops`` and an op that the op there waits for.
        """
        count = self.timeline.program.num_ops
        seen = found = np.zeros(0, dtype=np.int64)
        place, current = np.arange(len(ops)), ops
        while current.size:
            place, current = self._before(place, current)
            flies = (self.category[current] >= 0) & (self.timeline.end_s[current] > since_s[place])
            new = place[flies] * count + current[flies]
            new.sort()
            new = new[np.diff(new, prepend=-1) > 0]
            if seen.size:
                new = new[seen[np.minimum(np.searchsorted(seen, new), len(seen) - 1)] != new]
            seen = np.concatenate((seen, new))
            seen.sort()
            place, current = np.divmod(new, count)
            # What an op waited for that was in flight before has ended by then; joins start together.
            later = (self.timeline.start_s[current] > since_s[place]) | (self.partner_count[current] > 0)
            place, current = place[later], current[later]
        found = seen[seen % count != ops[seen // count]]
        return found // count, found % count

    def _before(self, place: Ints, ops: Ints) -> tuple[Ints, Ints]:
        """Return what each op waits for, with its place."""
        program = self.timeline.program
        start = program.dependency_start
        needs = np.diff(start)[ops]
        follows = self.previous[ops] >= 0
        joins = self.partner_count[ops]
        before = (
            program.dependency[ranges(start[ops], needs)],
            self.previous[ops[follows]],
            self.partner[ranges(self.partner_start[ops], joins)],
        )
        places = (np.repeat(place, needs), place[follows], np.repeat(place, joins))
        return np.concatenate(places), np.concatenate(before)

    def attribute(self, place: Ints, ops: Ints, low_s: Floats, high_s: Floats, ranks: Ints) -> Floats:
        """Return, by rank and category, the parts of gaps during which ops are in flight.

        Where several are, the one that ends last is what the gap waits for.

        Args:
            place: Gap of each op.
            ops: The ops.
            low_s: Begin of each gap.
            high_s: End of each gap.
            ranks: Rank of each gap.
        """
        start_s, end_s, program = self.timeline.start_s, self.timeline.end_s, self.timeline.program
        order = np.lexsort((ops, -end_s[ops], place))
        place, ops = place[order], ops[order]
        low = np.maximum(start_s[ops], low_s[place])
        high = np.minimum(end_s[ops], high_s[place])
        # What the ops before in the same gap have left of it: one after the other, many gaps at a time.
        is_first = np.diff(place, prepend=-1) != 0
        every = np.arange(len(place))
        number = every - np.maximum.accumulate(np.where(is_first, every, 0))
        left = low.copy()
        for turn in range(1, int(number.max(initial=0)) + 1):
            later = np.flatnonzero(number == turn)
            high[later] = np.minimum(high[later], left[later - 1])
            left[later] = np.minimum(left[later], left[later - 1])
        slot = ranks[place] * len(CATEGORIES) + self.category[ops]
        size = program.num_ranks * len(CATEGORIES)
        seconds = np.bincount(slot, np.maximum(high - low, 0.0), size)
        return seconds.astype(np.float64).reshape(program.num_ranks, len(CATEGORIES))


def waiting_seconds(timeline: Timeline, *, tail_transfers: bool) -> Floats:
    """Return, by rank and category, the idle seconds of the compute stream that communication explains.

    Args:
        timeline: What happened.
        tail_transfers: Whether the idle time after a rank's last compute op counts as exposed while a
            transfer of the rank is in flight; it always does while a collective is.
    """
    program, makespan = timeline.program, timeline.makespan_s
    waiting = Waiting.of(timeline)
    ops = np.flatnonzero(program.stream == Stream.COMPUTE)
    ops = ops[np.argsort(program.rank[ops], kind="stable")]
    ranks, starts = program.rank[ops], timeline.start_s[ops]
    free_from = np.zeros(len(ops))
    same = ranks[1:] == ranks[:-1]
    free_from[1:][same] = timeline.end_s[ops[:-1]][same]
    gaps = np.flatnonzero(starts - free_from > _RELATIVE_ROUNDING * makespan)
    low = free_from[gaps]
    place, others = waiting.awaited(ops[gaps], low)
    seconds = waiting.attribute(place, others, low, starts[gaps], ranks[gaps])
    last_end = np.zeros(program.num_ranks)
    np.maximum.at(last_end, ranks, timeline.end_s[ops])
    kinds = (OpKind.COLLECTIVE, OpKind.TRANSFER) if tail_transfers else (OpKind.COLLECTIVE,)
    tail = np.flatnonzero((timeline.end_s > last_end[program.rank]) & np.isin(program.kind, kinds))
    every = np.arange(program.num_ranks)
    ends = np.full(program.num_ranks, makespan)
    return seconds + waiting.attribute(program.rank[tail], tail, last_end, ends, every)
