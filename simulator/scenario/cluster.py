"""A cluster: GPUs, their scale-up domains and the scale-out network, tier by tier."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.scenario.gpu import Gpu
    from simulator.scenario.provenance import Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One level of the scale-out network.

    Attributes:
        name: What operators call it: ``leaf``, ``rail``, ``pod``, ``spine``, ``dcn``.
        gpus: GPUs below one switch group of this tier; 0 means all of the cluster.
        oversubscription: Bandwidth that GPUs offer to this tier over what it carries; 1 is full bisection.
        latency_s: Added one-way latency of crossing this tier.
    """

    name: str
    gpus: int
    oversubscription: float
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The scale-out network, from the nearest tier to the farthest.

    Attributes:
        name: Catalogue name.
        kind: ``fat-tree``, ``rail-optimised`` or ``torus``.
        bytes_per_s_per_gpu: One-way bandwidth of a GPU's share of its NICs.
        efficiency: Share of that bandwidth that large messages reach.
        tiers: Levels from the nearest to the farthest; the last one spans the cluster.
        torus: Chips along each axis of a torus (TPU), empty otherwise.
        sources: Provenance of every field.
    """

    name: str
    kind: str
    bytes_per_s_per_gpu: float
    efficiency: float
    tiers: tuple[Tier, ...]
    torus: tuple[int, ...] = ()
    sources: Sources = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """All the hardware of one job.

    Attributes:
        gpu: The accelerator.
        gpus: Accelerators of the job.
        gpus_per_node: Accelerators of one host.
        scale_up_domain: Accelerators that share one NVLink (xGMI, ICI) domain.
        network: The scale-out network between domains.
        price_per_gpu_hour: Dollars per accelerator and hour, or None.
    """

    gpu: Gpu
    gpus: int
    gpus_per_node: int
    scale_up_domain: int
    network: Network
    price_per_gpu_hour: float | None = None
