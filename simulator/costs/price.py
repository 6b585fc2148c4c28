"""From a Program to its Durations: price every distinct piece of work once, then spread over the ops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.costs.collectives import collective_cost, transfer_cost
from simulator.costs.durations import Durations
from simulator.costs.kernels import kernel_s
from simulator.costs.slowest import slowest_factor
from simulator.workload.work import (
    Attention,
    Collective,
    Elementwise,
    Gemm,
    Sequence,
    StepOverhead,
    Transfer,
    Work,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.costs.message import MessageCost
    from simulator.scenario import Cluster, Software
    from simulator.workload.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What work is priced on.

    Attributes:
        cluster: The hardware.
        software: The stack that runs on it.
    """

    cluster: Cluster
    software: Software


def price(program: Program, system: System, sequence_s: Mapping[int, float] | None = None) -> Durations:
    """Return how long every op takes.

    Args:
        program: The ops.
        system: The hardware and the software.
        sequence_s: By work of ``program.works`` that is a sequence of blocks, its seconds, found by running
            the blocks' own programs.
    """
    fixed_s = np.zeros(len(program.works))
    flow_bytes = np.zeros(len(program.works))
    nic = system.cluster.network.bytes_per_s_per_gpu
    for index, work in enumerate(program.works):
        if isinstance(work, Sequence):
            fixed_s[index] = (sequence_s or {})[index]
        elif isinstance(work, Collective | Transfer):
            cost = message_cost(work, system.cluster)
            if cost.uses_network:
                fixed_s[index] = cost.fixed_s
                flow_bytes[index] = cost.wire_bytes / cost.bytes_per_s * nic
            else:
                fixed_s[index] = cost.alone_s
        else:
            fixed_s[index] = _leaf_s(work, system)
    return _spread(program, fixed_s, flow_bytes, nic)


def message_cost(work: Collective | Transfer, cluster: Cluster) -> MessageCost:
    """Return the cost of a collective or of a point-to-point message."""
    if isinstance(work, Collective):
        return collective_cost(work, cluster)
    return transfer_cost(work, cluster)


def launches(program: Program) -> int:
    """Count the kernels that the host launches for a program, collectives included."""
    counts = [work.kernels if isinstance(work, Elementwise) else 1 for work in program.works]
    return int(np.asarray(counts, dtype=np.int64)[program.work].sum()) if counts else 0


def _leaf_s(work: Work, system: System) -> float:
    if isinstance(work, StepOverhead):
        return system.software.step_overhead_s
    if isinstance(work, Collective | Transfer | Sequence):
        raise TypeError(f"{type(work).__name__} is priced elsewhere")
    cluster = system.cluster
    seconds = kernel_s(work, cluster.gpu)
    is_bound_by_clock = isinstance(work, Gemm | Attention)
    return seconds * slowest_factor(cluster.gpu.speed_spread, cluster.gpus) if is_bound_by_clock else seconds


def _spread(program: Program, fixed_s: np.ndarray, flow_bytes: np.ndarray, nic: float) -> Durations:
    """Give each op its work's seconds, and each flow its route: out of one rank's NIC and into another's."""
    flow = flow_bytes[program.work] if program.num_ops else np.zeros(0)
    targets = np.asarray([getattr(work, "target", -1) for work in program.works], dtype=np.int64)
    routed = np.flatnonzero(flow)
    target = targets[program.work[routed]]
    receiver = np.where(target >= 0, target, program.rank[routed])
    start = np.zeros(program.num_ops + 1, dtype=np.int64)
    start[routed + 1] = 2
    return Durations(
        fixed_s=fixed_s[program.work] if program.num_ops else np.zeros(0),
        flow_bytes=flow,
        route_start=np.cumsum(start),
        route=np.stack((2 * program.rank[routed], 2 * receiver + 1), axis=1).reshape(-1),
        link_bytes_per_s=np.full(2 * program.num_ranks, nic),
        link_names=tuple(f"{name} nic {way}" for name in program.rank_names for way in ("out", "in")),
    )
