"""What work is priced on: one kind of hardware for all ranks, or one for each pipeline rank."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.scenario.content import content_hash
from simulator.workload.work import Collective, Transfer

if TYPE_CHECKING:
    from simulator.scenario import Cluster, Network, Scenario, Software


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What work is priced on.

    Attributes:
        cluster: The hardware.
        software: The stack that runs on it.
        ranks: Hardware of each program rank in a mixed cluster; empty where all have the same.
    """

    cluster: Cluster
    software: Software
    ranks: tuple[Cluster, ...] = ()

    def __hash__(self) -> int:
        """Hash by content: systems are made again and again of the same hardware and software."""
        return hash((content_hash(self.cluster), content_hash(self.software), len(self.ranks)))

    @classmethod
    def of(cls, scenario: Scenario) -> System:
        """Return the system that a scenario's pipeline ranks run on."""
        cluster = scenario.cluster
        ranks = cluster.of_pipeline_ranks(scenario.parallelism.pp) if cluster.pools else ()
        return cls(cluster=cluster, software=scenario.software, ranks=ranks)

    def at(self, rank: int) -> System:
        """Return the system as one program rank sees it, for the blocks that it runs by itself."""
        return replace(self, cluster=self.ranks[rank], ranks=()) if self.ranks else self

    def kinds(self, num_ranks: int) -> tuple[int, ...]:
        """Return for each program rank one rank with the same hardware, the same one for all of these."""
        if not self.ranks:
            return (0,) * num_ranks
        numbers = {id(cluster): number for number, cluster in enumerate(self.ranks)}
        return tuple(numbers[id(cluster)] for cluster in self.ranks)

    def carrier(self, work: Collective | Transfer, rank: int) -> Cluster:
        """Return the hardware that a message or a collective of one rank is priced on.

        Inside a pool that is the pool. Between pools it is the slower network, entered through one NIC per
        rank; a group over several pipeline ranks is as slow as the slowest pool.
        """
        if not self.ranks:
            return self.cluster
        if isinstance(work, Transfer):
            ends = (self.ranks[work.source], self.ranks[work.target])
            apart = ends[0] != ends[1]
            return replace(between(ends, self.cluster.gpus), scale_up_domain=1) if apart else ends[0]
        per_rank = self.cluster.gpus // len(self.ranks)
        if (work.group.size - 1) * work.group.stride < per_rank:
            return self.ranks[rank]
        return between(self.ranks, self.cluster.gpus)

    def nic_bytes_per_s(self, rank: int) -> float:
        """Return the one-way bandwidth of a program rank's share of its NICs."""
        cluster = self.ranks[rank] if self.ranks else self.cluster
        return cluster.network.bytes_per_s_per_gpu


def between(clusters: tuple[Cluster, ...], gpus: int) -> Cluster:
    """Return what ranks of several pools have in common: the slowest NICs and links, the smallest domain.

    Args:
        clusters: The pools.
        gpus: Accelerators of the job.
    """
    slowest = min(clusters, key=lambda cluster: large_message_bytes_per_s(cluster.network))
    link = min(clusters, key=lambda cluster: cluster.gpu.scale_up_bytes_per_s)
    domain = min(cluster.scale_up_domain for cluster in clusters)
    return replace(slowest, gpu=link.gpu, gpus=gpus, scale_up_domain=domain)


def large_message_bytes_per_s(network: Network) -> float:
    """Return what a large message reaches through one accelerator's share of the NICs."""
    return network.bytes_per_s_per_gpu * network.efficiency
