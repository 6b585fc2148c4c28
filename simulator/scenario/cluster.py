"""A cluster: GPUs, their scale-up domains and the scale-out network, tier by tier."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
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
class Pool:
    """A part of a mixed cluster: some nodes with accelerators of one kind.

    Attributes:
        gpu: The accelerator.
        gpus: Accelerators of the pool.
        gpus_per_node: Accelerators of one host.
        scale_up_domain: Accelerators that share one NVLink (xGMI, ICI) domain.
        network: The scale-out network as seen through the NICs of this pool.
    """

    gpu: Gpu
    gpus: int
    gpus_per_node: int
    scale_up_domain: int
    network: Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """All the hardware of one job.

    Attributes:
        gpu: The accelerator; of a mixed cluster, that of the first pool.
        gpus: Accelerators of the job.
        gpus_per_node: Accelerators of one host.
        scale_up_domain: Accelerators that share one NVLink (xGMI, ICI) domain; the slice of a TPU pod.
        network: The scale-out network between domains.
        price_per_gpu_hour: Dollars per accelerator and hour, or None.
        pools: Parts with different accelerators, in the order of the pipeline ranks; empty unless mixed.
    """

    gpu: Gpu
    gpus: int
    gpus_per_node: int
    scale_up_domain: int
    network: Network
    price_per_gpu_hour: float | None = None
    pools: tuple[Pool, ...] = ()

    def part(self, pool: Pool) -> Cluster:
        """Return one pool as a cluster of its own."""
        return replace(
            self,
            gpu=pool.gpu,
            gpus=pool.gpus,
            gpus_per_node=pool.gpus_per_node,
            scale_up_domain=pool.scale_up_domain,
            network=pool.network,
            pools=(),
        )

    def of_pipeline_ranks(self, pp: int) -> tuple[Cluster, ...]:
        """Return the hardware of each pipeline rank: the pools in order, each with its share of the ranks."""
        if not self.pools:
            return (self,) * pp
        per_rank = self.gpus // pp
        parts = ((self.part(pool),) * (pool.gpus // per_rank) for pool in self.pools)
        return tuple(itertools.chain.from_iterable(parts))

    def peak_flop_per_s(self, precision: str) -> float | None:
        """Return the dense peak of the mean accelerator in a number format, None where one lacks it."""
        if not self.pools:
            return self.gpu.peak_flop_per_s.get(precision)
        peaks = [(pool.gpus, pool.gpu.peak_flop_per_s.get(precision)) for pool in self.pools]
        if any(not peak for _, peak in peaks):
            return None
        return sum(gpus * peak for gpus, peak in peaks if peak) / self.gpus

    @property
    def gpu_name(self) -> str:
        """What to call the accelerators, all kinds of them."""
        if not self.pools:
            return self.gpu.name
        return " + ".join(f"{pool.gpus} x {pool.gpu.name}" for pool in self.pools)
