"""Steps that follow each other rank by rank, without a barrier between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.engines.timeline import Timeline
from simulator.workload.program import OpKind
from simulator.workload.work import Transfer

if TYPE_CHECKING:
    from simulator.workload.program import Floats


def continuous(timeline: Timeline) -> Timeline:
    """Count every rank's time from the start of its own step.

    Without a barrier a rank begins its next step as soon as it has ended this one; all ranks then take as
    long as the one that is busy longest from its first to its last op, and start apart as in this step (Qi
    et al., arXiv:2401.10241, section 4). Messages are shown at the time of the rank that waits for them.
    """
    program = timeline.program
    first = np.full(program.num_ranks, np.inf)
    np.minimum.at(first, program.rank, timeline.start_s)
    targets = np.asarray([work.target if isinstance(work, Transfer) else -1 for work in program.works])
    target = targets[program.work]
    waits = np.where((program.kind == OpKind.TRANSFER) & (target >= 0), target, program.rank)
    shift: Floats = first[waits]
    start = np.maximum(timeline.start_s - shift, 0.0)
    return Timeline(program=program, start_s=start, end_s=np.maximum(timeline.end_s - shift, start))
