"""What kernels lose to the collectives that run beside them.

The kernel of a collective holds some multiprocessors for as long as it runs (one per NCCL channel, see
``channels``), so that matrix multiplications and attention beside it run on the others:

    t = alone + sum over overlapped seconds of (multiprocessors held / all multiprocessors)

Copy engines hold none, and memory-bound kernels reach their bandwidth without a few of them. Within a layer
that is the time of its kernels; a pass over many layers loses the share of it that matrix kernels take.

NCCL opens channels, each of which takes one SM: inside a scale-up domain as many as its links are worth.
Across domains it looks for rings that use each NIC once, doubles what it finds (``ncclTopoPostset``,
src/graph/connect.cc, commit 5067397c), and from compute capability 9.0 on doubles again as long as there are
fewer than 16 ("4 compute channels per search channel to reach peak BW on <8 PPN"). So a data-parallel group
with one rank per node takes 4 SMs on H100, not 24. Logs agree: 8 channels for two GPUs in each of two nodes
(github:NVIDIA/nccl issue 1189), 16 for eight in each of three (issue 1453), both with 2 channels per peer for
messages.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simulator.costs.collectives import leaves_domain
from simulator.costs.send_once import KERNELS
from simulator.costs.topology import place
from simulator.engines import jit, loops
from simulator.workload.program import Stream
from simulator.workload.work import Attention, Collective, Gemm, Scan, Transfer

if TYPE_CHECKING:
    from simulator.costs.system import System
    from simulator.engines.durations import Durations
    from simulator.engines.timeline import Timeline
    from simulator.scenario.gpu import Gpu
    from simulator.workload.program import Floats, Ints, Program, Work
    from simulator.workload.step.structure import Structure


MOST_ACROSS = 16
"""Channels at which NCCL stops doubling them for a group that spans domains."""
PER_MESSAGE_ACROSS = 2
"""Channels of a message that crosses the network (``ncclTopoGetNchannels``, src/graph/paths.cc)."""


def per_nic(gpu: Gpu) -> int:
    """Return the channels for each NIC that a group enters the network by.

    Compute capability 9.0 brought fp8 to the accelerators that NVLink joins; it tells them from older ones.
    """
    return 4 if "fp8" in gpu.peak_flop_per_s else 2


def channels(work: Collective | Transfer, system: System) -> int:
    """Return the multiprocessors that NCCL's kernel takes for a collective or a message.

    Args:
        work: What is sent.
        system: The hardware, and the software with its channels inside one domain.
    """
    inside, cluster = system.software.collective_multiprocessors, system.cluster
    if isinstance(work, Transfer):
        return min(inside, PER_MESSAGE_ACROSS) if leaves_domain(work, cluster) else inside
    placement = place(work.group, cluster.network, domain=cluster.scale_up_domain, gpus=cluster.gpus)
    if placement.one_domain:
        return inside
    return min(inside, MOST_ACROSS, per_nic(cluster.gpu) * placement.ranks_per_domain)


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


class _Overlap(NamedTuple):
    """Kernels or passes, and the collectives that may overlap with them; see ``loops.add_contention``.

    Attributes:
        pass_start: [rank + 1] Where the kernels or passes of each rank begin.
        passes: These, in order.
        collective_start: [rank x stream + 1] Where the collectives of each rank and stream begin.
        collectives: These, in order.
    """

    pass_start: Ints
    passes: Ints
    collective_start: Ints
    collectives: Ints

    def lost_s(self, share: Floats, slot: Ints, start_s: Floats, end_s: Floats) -> Floats:
        """Return what each of ``passes`` loses.

        Args:
            share: [slot] Share of matrix kernels in it, or of the multiprocessors that a collective holds.
            slot: [op] Slot of each op.
            start_s: [op] Start of each op.
            end_s: [op] End of each op.
        """
        lost_s = np.zeros(len(self.passes))
        columns = (*self, slot, share, np.arange(len(end_s)), end_s - start_s, end_s)
        jit.run(loops.add_contention, len(self.passes) + len(self.collectives), columns, (lost_s,))
        return lost_s


def slowed(program: Program, alone: Durations, start_s: Floats, end_s: Floats, system: System) -> Durations:
    """Return the durations of a layer's ops with what its kernels lose to collectives that overlap with them.

    What overlaps is read off a timeline of ops that are not slowed down.

    Args:
        program: One layer on one rank.
        alone: Durations of its ops by themselves.
        start_s: Start of each op.
        end_s: End of each op.
        system: The hardware and the software.
    """
    held = np.asarray([held_multiprocessors(work, system) for work in program.works])
    suffers = np.asarray([is_slowed(work) for work in program.works])
    order, start = program.in_queues()
    kernels = order[start[Stream.COMPUTE] : start[Stream.COMPUTE + 1]]
    kernels = kernels[suffers[program.work[kernels]]]
    others = order[start[Stream.COMPUTE + 1] :]
    if not kernels.size or not held[program.work[others]].any():
        return alone
    overlap = _Overlap(np.array([0, len(kernels)]), kernels, start[Stream.COMPUTE + 1 :] - start[1], others)
    share = np.where(suffers, 1.0, np.minimum(held / system.cluster.gpu.multiprocessors, 1.0))
    return _longer(alone, kernels, overlap.lost_s(share, program.work, start_s, end_s))


def slowed_passes(structure: Structure, timeline: Timeline, alone: Durations, share: Floats) -> Durations:
    """Return the durations of a step's ops with what its passes lose to collectives that overlap with them.

    Args:
        structure: The step.
        timeline: When its ops ran for as long as they take alone.
        alone: How long that is.
        share: [slot] Share of matrix kernels in passes, and of multiprocessors that collectives hold.
    """
    queues = structure.layout.queues
    if not queues.collectives.size:
        return alone
    overlap = _Overlap(queues.pass_start, queues.passes, queues.collective_start, queues.collectives)
    lost_s = overlap.lost_s(share, structure.slot, timeline.start_s, timeline.end_s)
    return _longer(alone, queues.passes, lost_s)


def _longer(alone: Durations, ops: Ints, lost_s: Floats) -> Durations:
    if not lost_s.any():
        return alone
    fixed_s = alone.fixed_s.copy()
    fixed_s[ops] += lost_s
    return replace(alone, fixed_s=fixed_s)
