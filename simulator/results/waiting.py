"""What a rank's compute stream waits for while it is idle."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from simulator.ragged import ranges, sorted_by
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
    of_kind_and_stream = np.full((len(OpKind), len(Stream)), -1)
    of_kind_and_stream[OpKind.TRANSFER] = [_TRANSFER_STREAMS.get(stream, _PP) for stream in Stream]
    category: Ints = of_kind_and_stream.reshape(-1)[program.kind * len(Stream) + program.stream]
    collectives = np.flatnonzero(program.kind == OpKind.COLLECTIVE)
    category[collectives] = np.array(of_work)[program.work[collectives]]
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
    def of(cls, timeline: Timeline, category: Ints) -> Waiting:
        """Read the relation off a timeline, given the category of each op."""
        program = timeline.program
        order, begins = program.in_queues()
        previous = np.empty_like(order)
        previous[order[1:]] = order[:-1]
        previous[order[begins[begins < len(order)]]] = -1
        joined = np.flatnonzero(program.join >= 0)
        partner = joined[np.argsort(program.join[joined], kind="stable")]
        _, first, which, sizes = np.unique(
            program.join[partner], return_index=True, return_inverse=True, return_counts=True
        )
        start, count = np.zeros((2, program.num_ops), dtype=np.int64)
        start[partner], count[partner] = first[which], sizes[which]
        return cls(
            timeline=timeline,
            category=category,
            previous=previous,
            partner_start=start,
            partner_count=count,
            partner=partner,
        )

    def awaited(self, ops: Ints, since_s: Floats) -> tuple[Ints, Ints]:
        """Return the communication in flight that each of some ops waits for.

        Followed are dependencies, partners of a join and, for communication, its queue; never compute: what
        another rank's compute waits for is that rank's exposed communication and this rank's bubble.

        Args:
            ops: The ops.
            since_s: When the op before each of them on its stream ended; the communication ends later.

        Returns:
            Pairs of a place in ``ops`` and an op that the op there waits for; ascending.
        """
        count = self.timeline.program.num_ops
        start_s = self.timeline.start_s
        in_flight_until = np.where(self.category >= 0, self.timeline.end_s, 0.0)
        seen = found = np.zeros(0, dtype=np.int64)
        place, current = self._needed(np.arange(len(ops)), ops)
        while current.size:
            flies = np.flatnonzero(in_flight_until[current] > since_s[place])
            new = place[flies] * count + current[flies]
            new.sort()
            new = new[np.diff(new, prepend=-1) > 0]
            if seen.size:
                new = new[seen[np.minimum(np.searchsorted(seen, new), len(seen) - 1)] != new]
                seen = np.concatenate((seen, new))
                seen.sort(kind="stable")  # two ascending runs, which it merges
            else:
                seen = new
            place, current = np.divmod(new, count)
            # What an op waited for that was in flight before has ended by then; joins start together.
            later = np.flatnonzero((start_s[current] > since_s[place]) | (self.partner_count[current] > 0))
            place, current = place[later], current[later]
            behind = np.flatnonzero(self.previous[current] >= 0)
            needed_by, needed = self._needed(place, current)
            place = np.concatenate((needed_by, place[behind]))
            current = np.concatenate((needed, self.previous[current[behind]]))
        found = seen[seen % count != ops[seen // count]]
        return found // count, found % count

    def _needed(self, place: Ints, ops: Ints) -> tuple[Ints, Ints]:
        """Return the dependencies and partners of each op, with its place."""
        program = self.timeline.program
        start = program.dependency_start[ops]
        needs = program.dependency_start[ops + 1] - start
        joined = np.flatnonzero(self.partner_count[ops])
        # Once for all ops of a join that one place waits for: each would name all of them.
        join = place[joined] * program.num_ops + self.partner_start[ops[joined]]
        joined = joined[np.unique(join, return_index=True)[1]]
        joins = self.partner_count[ops[joined]]
        before = (
            program.dependency[ranges(start, needs)],
            self.partner[ranges(self.partner_start[ops[joined]], joins)],
        )
        return np.concatenate((np.repeat(place, needs), np.repeat(place[joined], joins))), np.concatenate(
            before
        )


def attributed(
    timeline: Timeline,
    category: Ints,
    place: Ints,
    ops: Ints,
    low_s: Floats,
    high_s: Floats,
    ranks: Ints,
) -> Floats:
    """Return, by rank and category, the parts of gaps during which ops are in flight.

    Where several are, the one that ends last is what the gap waits for.

    Args:
        timeline: What happened.
        category: Category of each communication op.
        place: Gap of each op, ascending.
        ops: The ops.
        low_s: Begin of each gap.
        high_s: End of each gap.
        ranks: Rank of each gap.
    """
    start_s, end_s, program = timeline.start_s, timeline.end_s, timeline.program
    crowded = np.flatnonzero(np.bincount(place, minlength=len(low_s))[place] > 1)
    ops, among = ops.copy(), ops[crowded]
    ops[crowded] = among[np.lexsort((among, -end_s[among], place[crowded]))]
    low = np.maximum(start_s[ops], low_s[place])
    high = np.minimum(end_s[ops], high_s[place])
    high[crowded] = np.minimum(high[crowded], _left_by_others(place[crowded], low[crowded]))
    slot = ranks[place] * len(CATEGORIES) + category[ops]
    size = program.num_ranks * len(CATEGORIES)
    seconds = np.bincount(slot, np.maximum(high - low, 0.0), size)
    return seconds.astype(np.float64).reshape(program.num_ranks, len(CATEGORIES))


def _left_by_others(place: Ints, low: Floats) -> Floats:
    """Return up to when the ops before each one in the same gap leave it alone: one after the other."""
    number = np.arange(len(place)) - np.searchsorted(place, place)
    left, unclaimed = low.copy(), np.full(len(low), np.inf)
    turns = sorted_by(number)
    first = np.searchsorted(number[turns], np.arange(1, 2 + int(number.max(initial=0))))
    for begin, end in pairwise(first.tolist()):
        later = turns[begin:end]
        unclaimed[later] = left[later - 1]
        left[later] = np.minimum(left[later], left[later - 1])
    return unclaimed


def waiting_seconds(timeline: Timeline, category: Ints, *, tail_transfers: bool) -> Floats:
    """Return, by rank and category, the idle seconds of the compute stream that communication explains.

    Args:
        timeline: What happened.
        category: Category of each communication op, -1 for other ops.
        tail_transfers: Whether the idle time after a rank's last compute op counts as exposed while a
            transfer of the rank is in flight; it always does while a collective is.
    """
    program, makespan = timeline.program, timeline.makespan_s
    ops = program.stream_ops(Stream.COMPUTE)
    ranks, starts, ends = program.rank[ops], timeline.start_s[ops], timeline.end_s[ops]
    begins = np.diff(ranks, prepend=-1) > 0
    free_from = np.where(begins, 0.0, np.roll(ends, 1))
    gaps = np.flatnonzero(starts - free_from > _RELATIVE_ROUNDING * makespan)
    low = free_from[gaps]
    seconds = np.zeros((program.num_ranks, len(CATEGORIES)))
    if gaps.size:
        place, others = Waiting.of(timeline, category).awaited(ops[gaps], low)
        seconds += attributed(timeline, category, place, others, low, starts[gaps], ranks[gaps])
    last_end = np.zeros(program.num_ranks)
    first = np.flatnonzero(begins)
    last_end[ranks[first]] = np.maximum.reduceat(ends, first)
    kinds = (OpKind.COLLECTIVE, OpKind.TRANSFER) if tail_transfers else (OpKind.COLLECTIVE,)
    tail = np.flatnonzero(np.logical_or.reduce([program.kind == kind for kind in kinds]))
    tail = tail[timeline.end_s[tail] > last_end[program.rank[tail]]]
    tail = tail[sorted_by(program.rank[tail])]
    if tail.size:
        every, longest = np.arange(program.num_ranks), np.full(program.num_ranks, makespan)
        seconds += attributed(timeline, category, program.rank[tail], tail, last_end, longest, every)
    return seconds
