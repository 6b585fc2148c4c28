"""Where the ranks of a group lie: in how many scale-up domains, across which tiers of the network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.scenario.cluster import Network
    from simulator.workload.work import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A tier of the scale-out network that a group's messages enter.

    Attributes:
        tier: Its name.
        units: Units below the tier (scale-up domains, leaves, pods ...) that the group spans.
        ranks_below: Ranks of the group inside one such unit.
        rings: Groups of this axis that cross the border of one unit at the same time.
        gpus_below: Accelerators of one unit.
        oversubscription: Bandwidth offered to the tier over what it carries.
        latency_s: Added one-way latency.
    """

    tier: str
    units: int
    ranks_below: int
    rings: int
    gpus_below: int
    oversubscription: float
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A group of ranks on the cluster, when all groups of its axis communicate at once.

    Attributes:
        ranks: Ranks of the group.
        ranks_per_domain: Ranks of the group in one scale-up domain.
        domains: Scale-up domains that the group spans.
        nic_bytes_per_s: What large messages reach through one rank's NIC share.
        crossings: Tiers entered, from the nearest to the farthest; none inside one domain.
    """

    ranks: int
    ranks_per_domain: int
    domains: int
    nic_bytes_per_s: float
    crossings: tuple[Crossing, ...]

    @property
    def one_domain(self) -> bool:
        """Whether the group never leaves its scale-up domain."""
        return self.domains == 1

    @property
    def ring_bytes_per_s(self) -> float:
        """Rate of one rank's NIC in a ring or tree: every group crosses a unit's border once per direction.

        A unit of G GPUs owns ``G x NIC / oversubscription`` of the tier above it, shared by the groups that
        cross its border; a group enters it through as many NICs as it has ranks per domain.
        """
        rate = self.nic_bytes_per_s
        for crossing in self.crossings:
            uplink = crossing.gpus_below * self.nic_bytes_per_s / crossing.oversubscription
            rate = min(rate, uplink / crossing.rings / self.ranks_per_domain)
        return rate

    @property
    def ring_latency_s(self) -> float:
        """Latency that the tiers add to one lap around the ring of domains."""
        return sum(crossing.units * crossing.latency_s for crossing in self.crossings)

    @property
    def tree_latency_s(self) -> float:
        """Latency that the tiers add to one way from the leaves of a binary tree to its root."""
        return sum(math.log2(crossing.units) * crossing.latency_s for crossing in self.crossings)

    @property
    def path_latency_s(self) -> float:
        """Latency that the tiers add to one message between the farthest ranks."""
        return sum(crossing.latency_s for crossing in self.crossings)


@lru_cache(maxsize=4096)
def place(group: Group, network: Network, *, domain: int, gpus: int) -> Placement:
    """Return where a group lies on a cluster.

    Global ranks fill scale-up domains and switch groups in order. Rail-optimised fabrics need no special
    case: ranks that are a multiple of the node size apart share a rail, others reach it over NVLink (PXN).

    Args:
        group: Its size and stride in global rank numbering.
        network: The scale-out network.
        domain: Accelerators of one scale-up domain.
        gpus: Accelerators of the job.

    A data-parallel group with stride 128 over pods of 3,072 GPUs, 7:1 oversubscribed (Meta's RoCE cluster,
    arXiv:2407.21783, section 3.3.1): a pod owns 3072 x 50 / 7 GB/s = 21.9 TB/s of the spine and 128 rings
    cross its border, so each could use 171 GB/s and the NIC's 50 GB/s remain the limit. With stride 1,024,
    the inner axes being that wide, 1,024 rings share the border: 21.4 GB/s each.

    >>> from simulator.scenario.cluster import Network, Tier
    >>> from simulator.workload.work import Group
    >>> roce = Network(name="roce", kind="fat-tree", bytes_per_s_per_gpu=50e9, efficiency=1.0, tiers=(
    ...     Tier(name="leaf", gpus=16, oversubscription=1.0, latency_s=1e-6),
    ...     Tier(name="pod", gpus=3072, oversubscription=1.0, latency_s=1e-6),
    ...     Tier(name="spine", gpus=0, oversubscription=7.0, latency_s=1e-6)))
    >>> rings = place(Group(axis="dp", size=128, stride=128), roce, domain=8, gpus=16384)
    >>> rings.ranks_per_domain, rings.domains, [(c.tier, c.units) for c in rings.crossings]
    (1, 128, [('leaf', 128), ('pod', 128), ('spine', 6)])
    >>> rings.ring_bytes_per_s / 1e9
    50.0
    >>> wide = place(Group(axis="dp", size=16, stride=1024), roce, domain=8, gpus=16384)
    >>> round(wide.ring_bytes_per_s / 1e9, 1)
    21.4
    """
    ranks_per_domain = min(group.size, max(1, domain // group.stride))
    domains = -(-group.size // ranks_per_domain)
    crossings: list[Crossing] = []
    below = domain
    for tier in network.tiers:
        units = min(domains, -(-group.size * group.stride // below))
        if units <= 1:
            break
        crossing = Crossing(
            tier=tier.name,
            units=units,
            ranks_below=min(group.size, max(1, below // group.stride)),
            rings=min(group.stride, below),
            gpus_below=below,
            oversubscription=tier.oversubscription,
            latency_s=tier.latency_s,
        )
        crossings.append(crossing)
        below = max(below, min(tier.gpus or gpus, gpus))
    return Placement(
        ranks=group.size,
        ranks_per_domain=ranks_per_domain,
        domains=domains,
        nic_bytes_per_s=network.bytes_per_s_per_gpu * network.efficiency,
        crossings=tuple(crossings),
    )
