"""What passes lose to the data-parallel collectives that run beside them.

As within a layer (see ``contention``): matrix multiplications and attention run on the multiprocessors that
the collectives leave. A pass over many layers loses that share of its matrix kernels' part of the time for
which they overlap.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from simulator.durations.contention import held_multiprocessors, is_slowed
from simulator.durations.price import price_layer
from simulator.workload.program import Block, BlockSequence, Stream
from simulator.workload.work import Collective

if TYPE_CHECKING:
    from simulator.costs.system import System
    from simulator.engines.durations import Durations
    from simulator.workload.program import Floats, Program

_STREAMS = (Stream.DP_GATHER, Stream.DP_REDUCE)


def slowed_passes(
    program: Program, alone: Durations, start_s: Floats, end_s: Floats, system: System
) -> Durations:
    """Return the durations of a step's ops where they run as a first timeline says.

    Args:
        program: One step.
        alone: Durations of its ops by themselves.
        start_s: Start of each op.
        end_s: End of each op.
        system: The hardware and the software.
    """
    held = np.asarray(
        [held_multiprocessors(work, system) if isinstance(work, Collective) else 0 for work in program.works]
    )[program.work]
    beside = np.flatnonzero((held > 0) & np.isin(program.stream, _STREAMS) & (end_s > start_s))
    if not beside.size:
        return alone
    fixed_s = alone.fixed_s.copy()
    kinds = system.kinds(program.num_ranks)
    shares: dict[tuple[Block, int], float] = {}
    for rank in np.flatnonzero(np.bincount(program.rank[beside])).tolist():
        mine = beside[program.rank[beside] == rank]
        passes = program.queue(rank, Stream.COMPUTE)
        passes = passes[(end_s[passes] > start_s[mine].min()) & (start_s[passes] < end_s[mine].max())]
        multiprocessors = system.at(kinds[rank]).cluster.gpu.multiprocessors
        lost_s = _overlap(start_s, end_s, passes, mine) @ np.minimum(held[mine] / multiprocessors, 1.0)
        slow = np.flatnonzero(lost_s)
        for op, lost in zip(passes[slow].tolist(), lost_s[slow].tolist(), strict=True):
            work = program.works[program.work[op]]
            if isinstance(work, BlockSequence):
                seconds = _matrix_seconds(work, system, kinds[rank], shares)
                fixed_s[op] += lost * min(1.0, seconds / alone.fixed_s[op])
    return replace(alone, fixed_s=fixed_s)


def _overlap(start_s: Floats, end_s: Floats, passes: np.ndarray, others: np.ndarray) -> Floats:
    """Return the seconds for which each pass runs beside each of the others."""
    first = np.maximum(start_s[passes, None], start_s[others])
    last = np.minimum(end_s[passes, None], end_s[others])
    overlap: Floats = np.maximum(last - first, 0.0)
    return overlap


def _matrix_seconds(
    work: BlockSequence, system: System, kind: int, known: dict[tuple[Block, int], float]
) -> float:
    """Return the seconds of matrix multiplications and attention in a sequence of layers."""
    total = 0.0
    for block, count in work.blocks:
        key = (block, kind)
        if key not in known:
            known[key] = matrix_seconds(block.program, system.at(kind))
        total += count * known[key] * work.share
    return total


def matrix_seconds(program: Program, system: System) -> float:
    """Return the seconds of matrix multiplications and attention in a layer."""
    suffers = np.asarray([is_slowed(each) for each in program.works], dtype=bool)[program.work]
    fixed_s = price_layer(program, system).fixed_s
    return float(fixed_s[suffers & (program.stream == Stream.COMPUTE)].sum())
