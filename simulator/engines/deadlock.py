"""Explains a deadlock: who waits for what, since when, and one cycle of ops that wait for each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.engines.graph import queues
from simulator.workload.program import Floats, Ints, Program, Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHOWN = 64  # streams listed before the report only counts the others


def report(program: Program, finished: NDArray[np.bool_], end_s: Floats) -> str:
    """Return a report of the ops that wait for ever.

    Args:
        program: The program.
        finished: Which of its ops ended; the others never started.
        end_s: End of each op; only those of finished ops are read.
    """
    waits = _Waits(program, finished)
    heads = sorted(waits.head.values(), key=lambda op: (program.rank[op], program.stream[op]))
    lines = [f"deadlock: {int((~finished).sum())} of {program.num_ops} ops can never start"]
    lines += [f"  {_line(waits, op, end_s)}" for op in heads[:SHOWN]]
    if len(heads) > SHOWN:
        lines.append(f"  ... and {len(heads) - SHOWN} more streams")
    cycle = find_cycle(waits, heads)
    lines.append("cycle: " + " -> ".join(name(program, op) for op in [*cycle, cycle[0]]))
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Cause:
    """What an op waits for: another op, and how."""

    op: int
    how: str


class _Waits:
    """The wait-for graph of a program that stands still.

    Attributes:
        program: The program.
        head: First unfinished op of each stream.
    """

    def __init__(self, program: Program, finished: NDArray[np.bool_]) -> None:
        self.program = program
        self.finished = finished
        self.queue = queues(program)
        unfinished = np.flatnonzero(~finished)
        _, first = np.unique(self.queue[unfinished], return_index=True)
        self.head: dict[int, int] = {int(self.queue[op]): int(op) for op in unfinished[first]}

    def own_causes(self, op: int) -> list[_Cause]:
        """Return what keeps an op from being ready, leaving its join aside."""
        head = self.head[int(self.queue[op])]
        behind = [_Cause(head, "its turn behind")] if head != op else []
        needed = self.program.dependencies(op)
        return behind + [_Cause(int(other), "the end of") for other in needed[~self.finished[needed]]]

    def causes(self, op: int) -> list[_Cause]:
        """Return what an op waits for; never empty for an op that never started."""
        return self.own_causes(op) or [
            _Cause(other, "its partner") for other in self.partners(op).tolist() if self.own_causes(other)
        ]

    def partners(self, op: int) -> Ints:
        """Return the ops that an op joins, including itself."""
        return np.flatnonzero((self.program.join == self.program.join[op]) & (self.program.join >= 0))


def find_cycle(waits: _Waits, heads: list[int]) -> list[int]:
    """Return ops each of which waits for the next, and the last for the first: the shortest that is met.

    Every unfinished op waits for something unfinished, so following first causes always runs into a circle.
    """
    best: list[int] = []
    seen: set[int] = set()
    for head in heads:
        path: dict[int, None] = {}
        op = head
        while op not in path and op not in seen:
            path[op] = None
            op = waits.causes(op)[0].op
        if op in path:
            ops = list(path)
            cycle = ops[ops.index(op) :]
            if not best or len(cycle) < len(best):
                best = cycle
        seen |= path.keys()
    return best


def name(program: Program, op: int) -> str:
    """Name an op with its number, rank and stream: ``F3.1 (op 17, pp 1, compute)``."""
    rank = program.rank_names[program.rank[op]]
    return f"{program.label(op)} (op {op}, {rank}, {Stream(program.stream[op]).name.lower()})"


def _line(waits: _Waits, op: int, end_s: Floats) -> str:
    """Say what the first unfinished op of a stream waits for, and since when the stream has stood still."""
    before = np.flatnonzero((waits.queue == waits.queue[op]) & waits.finished)
    since = end_s[before[-1]] if before.size else 0.0
    text = "; ".join(f"{cause.how} {name(waits.program, cause.op)}" for cause in waits.causes(op))
    return f"{name(waits.program, op)} waits since {since:.6g} s for {text}"
