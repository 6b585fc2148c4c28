"""What kernels or passes lose to collectives beside them: a plain loop that numba can compile (``loops``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence

    from simulator.workload.program import Floats, Ints


def add_contention(
    pass_start: Sequence[int] | Ints,
    passes: Sequence[int] | Ints,
    collective_start: Sequence[int] | Ints,
    collectives: Sequence[int] | Ints,
    slot: Sequence[int] | Ints,
    share: Sequence[float] | Floats,
    row: Sequence[int] | Ints,
    seconds: Sequence[float] | Floats,
    ends: Sequence[float] | Floats,
    lost: MutableSequence[float] | Floats,
) -> None:
    """Find what passes lose to the collectives that run at the same time.

    Args:
        pass_start: Where the passes of each rank begin in ``passes``, and where the last one's end.
        passes: Passes, rank by rank in order.
        collective_start: Where the collectives of each rank and stream begin, and where the last one's end.
        collectives: Collectives, rank by rank and stream by stream in order.
        slot: Slot of each op.
        share: By slot, the share of matrix kernels in a pass, or of the SMs that a collective holds.
        row: Row of each op in ``seconds``.
        seconds: Seconds of ops when they ran.
        ends: End of each op.
        lost: Zeros; becomes the seconds that each of ``passes`` loses.
    """
    streams = (len(collective_start) - 1) // (len(pass_start) - 1)
    for queue in range(len(collective_start) - 1):
        first, last = pass_start[queue // streams], pass_start[queue // streams + 1]
        for at in range(collective_start[queue], collective_start[queue + 1]):
            other = collectives[at]
            held = share[slot[other]]
            if held == 0.0:
                continue
            end = ends[other]
            start = end - seconds[row[other]]
            while first < last and ends[passes[first]] <= start:
                first += 1
            place = first
            while place < last:
                op = passes[place]
                begin = ends[op] - seconds[row[op]]
                if begin >= end:
                    break
                overlap = min(ends[op], end) - max(begin, start)
                if overlap > 0.0:
                    lost[place] += overlap * held * share[slot[op]]
                place += 1
