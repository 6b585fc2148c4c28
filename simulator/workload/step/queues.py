"""Passes and data-parallel collectives of a step in the order in which each rank runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.ragged import ranges
from simulator.schedules.op_kind import OpKind
from simulator.workload.program import Stream
from simulator.workload.step.segments import MAKES_GRADIENTS, is_one_of
from simulator.workload.step.slots import PASS_KINDS

if TYPE_CHECKING:
    from simulator.workload.program import Ints, Program


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Queues:
    """Passes and data-parallel collectives of a step, rank by rank.

    Attributes:
        pass_start: [rank + 1] Where the passes of each rank begin.
        passes: Passes in order.
        opens: [pass] Stage whose gradients of the rank it is the first to make, or -1.
        closes: [pass] Stage whose gradients it is the last to make, or -1.
        collective_start: [rank x stream + 1] Where the collectives of each rank and data-parallel stream
            begin.
        collectives: Collectives in order.
    """

    pass_start: Ints
    passes: Ints
    opens: Ints
    closes: Ints
    collective_start: Ints
    collectives: Ints

    @classmethod
    def of(cls, program: Program) -> Queues:
        """Read them off a program."""
        pass_start, passes = _in_streams(program, (Stream.COMPUTE,))
        is_pass = is_one_of(
            program.kind[passes], (*PASS_KINDS, OpKind.OUTPUT_FORWARD, OpKind.OUTPUT_BACKWARD)
        )
        kept = np.concatenate(([0], np.cumsum(is_pass)))
        passes = passes[is_pass]
        opens, closes = _gradient_edges(program, passes)
        collective_start, collectives = _in_streams(program, (Stream.DP_GATHER, Stream.DP_REDUCE))
        return cls(
            pass_start=kept[pass_start],
            passes=passes,
            opens=opens,
            closes=closes,
            collective_start=collective_start,
            collectives=collectives,
        )


def _in_streams(program: Program, streams: tuple[Stream, ...]) -> tuple[Ints, Ints]:
    """Return where the ops of each rank and each of some streams begin in a list, and the list."""
    order, start = program.in_queues()
    queues = (np.arange(program.num_ranks)[:, None] * len(Stream) + np.array(streams)).reshape(-1)
    counts = start[queues + 1] - start[queues]
    return np.concatenate(([0], np.cumsum(counts))), order[ranges(start[queues], counts)]


def _gradient_edges(program: Program, passes: Ints) -> tuple[Ints, Ints]:
    """Return for each pass the stage whose gradients begin with it on its rank, and that whose end."""
    makes = np.flatnonzero(is_one_of(program.kind[passes], MAKES_GRADIENTS))
    ops = passes[makes]
    stages = int(program.stage.max(initial=0)) + 1
    code = program.rank[ops] * stages + program.stage[ops]
    edges = np.full((2, len(passes)), -1)
    for row, places in zip(edges, (np.arange(len(ops))[::-1], np.arange(len(ops))), strict=True):
        edge = np.full(program.num_ranks * stages, -1)
        edge[code[places]] = makes[places]  # the last one assigned stays
        chosen = edge[edge >= 0]
        row[chosen] = program.stage[passes[chosen]]
    return edges[0], edges[1]
