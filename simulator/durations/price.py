"""From a Program to its Durations: price every distinct piece of work once, then spread over the ops."""

from __future__ import annotations

from functools import cache, lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simulator.costs.collectives import collective_cost, leaves_domain, transfer_cost
from simulator.costs.kernels import kernel_s
from simulator.costs.system import System
from simulator.engines.durations import Durations
from simulator.workload.program import BlockSequence, Work
from simulator.workload.work import (
    Attention,
    Collective,
    Elementwise,
    Gemm,
    HostCopy,
    HostUpdate,
    Leaf,
    Scan,
    StepOverhead,
    Transfer,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from simulator.costs.message import MessageCost
    from simulator.scenario import Cluster
    from simulator.workload.program import Program


__all__ = ["System", "alone_s", "message_cost", "price", "price_layer"]


def price(program: Program, system: System, sequence_s: Mapping[int, float] | None = None) -> Durations:
    """Return how long every op takes.

    Args:
        program: The ops.
        system: The hardware and the software.
        sequence_s: By work of ``program.works`` that is a sequence of blocks, its seconds, found by running
            the blocks' own programs.
    """
    works = len(program.works)
    pair = program.work
    if system.ranks:
        pair = np.asarray(system.kinds(program.num_ranks))[program.rank] * works + pair
    pairs = np.flatnonzero(np.bincount(pair))
    fixed_s, flow_bytes = np.zeros((2, program.num_ranks * works))
    known: dict[Hashable, tuple[float, float]] = {}
    for place in pairs.tolist():
        rank, index = divmod(place, works)
        work = program.works[index]
        if isinstance(work, BlockSequence):
            fixed_s[place] = (sequence_s or {})[index]
            continue
        like = _message_kind(work, system) or place
        if like not in known:
            known[like] = leaf_cost(work, system, rank)
        fixed_s[place], flow_bytes[place] = known[like]
    return with_routes(program, system, fixed_s[pair], flow_bytes[pair])


def price_layer(program: Program, system: System) -> Durations:
    """Return how long the ops of a layer take; asked again of the same layer and system, the same object."""
    known = program.derived.get("price")
    if isinstance(known, _Priced) and known.system == system:
        return known.durations
    durations = price(program, system)
    program.derived["price"] = _Priced(system, durations)
    return durations


class _Priced(NamedTuple):
    system: System
    durations: Durations


def _message_kind(work: Leaf, system: System) -> Hashable:
    """Return what decides the cost of a message where ranks are alike; None for other work."""
    if system.ranks or not isinstance(work, Transfer):
        return None
    return work.bytes, work.stride, work.span, work.receives, leaves_domain(work, system.cluster)


def leaf_cost(work: Leaf, system: System, rank: int) -> tuple[float, float]:
    """Return the seconds of a piece of work on one rank, and the bytes that it then moves over its route."""
    if not isinstance(work, Collective | Transfer):
        return _leaf_s(work, system.at(rank)), 0.0
    return _message_cost(work, system, rank if system.ranks else 0)


@lru_cache(maxsize=65536)
def _message_cost(work: Collective | Transfer, system: System, rank: int) -> tuple[float, float]:
    cost = message_cost(work, system.carrier(work, rank))
    if not cost.uses_network or (isinstance(work, Transfer) and work.receives):
        return cost.alone_s, 0.0
    return cost.fixed_s, cost.wire_bytes / cost.bytes_per_s * _route_bytes_per_s(work, rank, system)


def alone_s(work: Leaf, system: System, rank: int = 0) -> float:
    """Return the seconds of a piece of work on one rank when nothing else uses its links."""
    fixed_s, flow_bytes = leaf_cost(work, system, rank)
    if not flow_bytes or not isinstance(work, Collective | Transfer):
        return fixed_s
    return fixed_s + flow_bytes / _route_bytes_per_s(work, rank, system)


def _route_bytes_per_s(work: Collective | Transfer, rank: int, system: System) -> float:
    """Return the slowest NIC on a flow's way: the sender's and the receiver's, or a rank's own."""
    if isinstance(work, Transfer) and system.ranks:
        return min(system.nic_bytes_per_s(work.source), system.nic_bytes_per_s(work.target))
    return system.nic_bytes_per_s(rank)


def message_cost(work: Collective | Transfer, cluster: Cluster) -> MessageCost:
    """Return the cost of a collective or of a point-to-point message."""
    if isinstance(work, Collective):
        return collective_cost(work, cluster)
    return transfer_cost(work, cluster)


def _kernels(work: Work) -> int:
    if isinstance(work, HostCopy | HostUpdate):
        return 0
    return work.kernels if isinstance(work, Elementwise) else 1


def _leaf_s(
    work: Gemm | Attention | Scan | Elementwise | HostCopy | HostUpdate | StepOverhead, system: System
) -> float:
    if isinstance(work, StepOverhead):
        return system.software.step_overhead_s
    cluster = system.cluster
    if isinstance(work, HostCopy):
        return work.bytes / cluster.gpu.host_bytes_per_s
    if isinstance(work, HostUpdate):
        return work.bytes / cluster.gpu.host_memory_bytes_per_s
    seconds = kernel_s(work, cluster.gpu)
    if isinstance(work, Elementwise):
        return seconds if work.exact else seconds * system.software.elementwise_slowdown
    clock = cluster.gpu.matrix_speed
    if isinstance(work, Gemm):
        clock *= cluster.gpu.training_clock.get(work.dtype, 1.0)
    return seconds * slowest_factor(cluster.gpu.speed_spread, cluster.gpus) / clock


def with_routes(program: Program, system: System, fixed_s: np.ndarray, flow: np.ndarray) -> Durations:
    """Give each flow its route: out of one rank's NIC and into another's."""
    routed = np.flatnonzero(flow)
    route_start = np.zeros(program.num_ops + 1, dtype=np.int64)
    route = np.zeros(0, dtype=np.int64)
    if routed.size:
        targets = np.asarray([getattr(work, "target", -1) for work in program.works], dtype=np.int64)
        target = targets[program.work[routed]]
        receiver = np.where(target >= 0, target, program.rank[routed])
        route_start[routed + 1] = 2
        route_start = np.cumsum(route_start)
        route = np.stack((2 * program.rank[routed], 2 * receiver + 1), axis=1).reshape(-1)
    return Durations(
        fixed_s=fixed_s,
        flow_bytes=flow,
        route_start=route_start,
        route=route,
        link_bytes_per_s=np.repeat([system.nic_bytes_per_s(rank) for rank in range(program.num_ranks)], 2),
        link_names=tuple(f"{name} nic {way}" for name in program.rank_names for way in ("out", "in")),
    )


@cache
def slowest_factor(spread: float, gpus: int) -> float:
    """Return the compute time of the slowest of ``gpus`` over that of a typical one.

    GPUs of one type sustain different clocks (silicon, cooling). Collectives and pipelines make all wait for
    the slowest, whose expected distance from the mean is that of the largest of n normal values: Blom's
    approximation, Statistical Estimates and Transformed Beta-Variables, 1958, equation 6.9.1.

    Args:
        spread: Standard deviation of sustained speed among GPUs, relative to the mean.
        gpus: GPUs of the job.

    >>> slowest_factor(0.02, 1)
    1.0
    >>> round(slowest_factor(0.02, 8), 4), round(slowest_factor(0.02, 16384), 4)
    (1.0287, 1.0791)
    """
    if gpus == 1 or not spread:
        return 1.0
    expected = NormalDist().inv_cdf((gpus - 0.375) / (gpus + 0.25))
    return 1.0 + spread * expected
