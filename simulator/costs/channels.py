"""How many channels NCCL runs a collective or a message on; each takes one multiprocessor.

Inside a scale-up domain it opens as many as its links are worth. Across domains it looks for rings that use
each NIC once, doubles what it found (``ncclTopoPostset``, src/graph/connect.cc, commit 5067397c), and from
compute capability 9.0 on doubles again as long as there are fewer than 16 ("4 compute channels per search
channel to reach peak BW on <8 PPN"). So a data-parallel group with one rank per node takes 4 multiprocessors
on H100, not 24. Logs agree: 8 channels for two GPUs in each of two nodes (github:NVIDIA/nccl issue 1189), 16
for eight in each of three (issue 1453), both with 2 channels per peer for messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.costs.collectives import leaves_domain
from simulator.costs.topology import place
from simulator.workload.work import Transfer

if TYPE_CHECKING:
    from simulator.costs.system import System
    from simulator.scenario.gpu import Gpu
    from simulator.workload.work import Collective

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
