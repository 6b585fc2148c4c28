"""What kernels lose to the collectives that run beside them.

The kernel of a collective holds some multiprocessors for as long as it runs (one per NCCL channel, see
``channels``), so that matrix multiplications and attention beside it run on the others:

    t = alone + sum over overlapped seconds of (multiprocessors held / all multiprocessors)

Copy engines hold none, and memory-bound kernels reach their bandwidth without a few of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from simulator.costs.channels import channels
from simulator.costs.send_once import KERNELS
from simulator.workload.program import Stream
from simulator.workload.work import Attention, Collective, Gemm, Scan, Transfer

if TYPE_CHECKING:
    from simulator.costs.system import System
    from simulator.engines.durations import Durations
    from simulator.workload.program import Floats, Program, Work


def held_multiprocessors(work: Work, system: System) -> int:
    """Return the multiprocessors that a collective or a message holds while it runs."""
    if isinstance(work, Transfer) and work.by_copy_engine:
        return 0
    if system.cluster.gpu.matrix_unit:  # a TPU's messages are sent by DMA engines
        return 0
    if isinstance(work, Collective) and work.kernel != "nccl":
        return KERNELS[work.kernel].multiprocessors
    return channels(work, system) if isinstance(work, Collective | Transfer) else 0


def is_slowed(work: Work) -> bool:
    """Tell whether a kernel wants all multiprocessors and does not leave some to the collective anyway."""
    return isinstance(work, Attention | Scan) or (isinstance(work, Gemm) and not work.spared)


def slowed(program: Program, alone: Durations, start_s: Floats, end_s: Floats, system: System) -> Durations:
    """Return the durations of a layer's ops where they run as a first timeline says.

    Args:
        program: One layer on one rank.
        alone: Durations of its ops by themselves.
        start_s: Start of each op.
        end_s: End of each op.
        system: The hardware and the software.
    """
    held = np.asarray([held_multiprocessors(work, system) for work in program.works])[program.work]
    suffers = np.asarray([is_slowed(work) for work in program.works])[program.work]
    beside = np.flatnonzero((held > 0) & (end_s > start_s))
    slow = np.flatnonzero(suffers & (program.stream == Stream.COMPUTE))
    if not beside.size or not slow.size:
        return alone
    share = np.minimum(held[beside] / system.cluster.gpu.multiprocessors, 1.0)
    overlap = np.minimum(end_s[slow, None], end_s[beside]) - np.maximum(start_s[slow, None], start_s[beside])
    lost_s = np.maximum(overlap, 0.0) @ share
    if not lost_s.any():
        return alone
    fixed_s = alone.fixed_s.copy()
    fixed_s[slow] += lost_s
    return replace(alone, fixed_s=fixed_s)
