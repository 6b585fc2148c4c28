"""What passes lose to the data-parallel collectives that run beside them.

As within a layer (see ``contention``): matrix multiplications and attention run on the SMs that the
collectives leave. A pass over many layers loses that share of its matrix kernels' part of the time for which
they overlap.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from simulator.engines import contention_loop
from simulator.engines.jit import loops

if TYPE_CHECKING:
    from simulator.engines.durations import Durations
    from simulator.engines.timeline import Timeline
    from simulator.workload.program import Floats
    from simulator.workload.step.structure import Structure


def slowed_passes(structure: Structure, timeline: Timeline, alone: Durations, share: Floats) -> Durations:
    """Return the durations of a step's ops where they run as a first timeline says.

    Args:
        structure: The step.
        timeline: When its ops ran for as long as they take alone.
        alone: How long that is.
        share: [slot] Share of matrix kernels in passes, and of SMs that collectives hold.
    """
    queues = structure.layout.queues
    if not queues.collectives.size:
        return alone
    seconds = timeline.end_s - timeline.start_s
    longer = seconds[queues.passes]
    columns = (
        queues.pass_start,
        queues.passes,
        queues.collective_start,
        queues.collectives,
        structure.slot,
        share,
        np.arange(len(seconds)),
        seconds,
        timeline.end_s,
    )
    compiled = loops(len(queues.passes) + len(queues.collectives))
    if compiled is not None:
        compiled.add_contention(*columns, longer)
    else:
        lists = [column.tolist() for column in (*columns, longer)]
        contention_loop.add_contention(*lists)
        longer = np.array(lists[-1])
    lost_s = longer - seconds[queues.passes]
    if not lost_s.any():
        return alone
    fixed_s = alone.fixed_s.copy()
    fixed_s[queues.passes] += lost_s
    return replace(alone, fixed_s=fixed_s)
