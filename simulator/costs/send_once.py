"""DeepEP and HybridEP: tokens that cross the network once per node, and NVLink once per rank.

A token goes over the network to the rank of the same index in each node that has one of its experts, and
from there over the scale-up links to the ranks of its experts; both hops are pipelined, so the slower one
counts (github:deepseek-ai/DeepEP, README; DeepSeek-V3, arXiv:2412.19437, section 3.2.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.costs import nccl_constants as nccl
from simulator.costs.message import MessageCost
from simulator.workload.layers.experts.destinations import expected_targets

if TYPE_CHECKING:
    from simulator.costs.links import ScaleUp
    from simulator.costs.topology import Placement
    from simulator.workload.work import Collective, CollectiveKernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a kernel reaches of the hardware.

    Attributes:
        link_fraction: Of the scale-up link's bandwidth.
        nic_fraction: Of what large messages reach through a NIC.
        multiprocessors: Multiprocessors that it takes away from computation while it runs.
    """

    link_fraction: float
    nic_fraction: float
    multiprocessors: int


KERNELS: dict[CollectiveKernel, Reach] = {
    # H800: 153 and 158 of 200 GB/s with EP8, the rank's own eighth included; 58 and 51 of 50 GB/s with EP32
    # and EP64, the own node's tokens included: 42.8 to 43.8 (docs/legacy.md, commit dd758caf). 20 of 132
    # multiprocessors: arXiv:2412.19437, section 3.2.2.
    "deepep": Reach(link_fraction=0.68, nic_fraction=0.89, multiprocessors=20),
    # DeepEP V2 with 24 multiprocessors: 643 of 900 GB/s, the rank's own eighth included (README.md, the same
    # commit). Its network share is taken from V1; 16 multiprocessors: Megatron-Core's moe_hybridep_num_sms.
    "hybridep": Reach(link_fraction=0.63, nic_fraction=0.89, multiprocessors=16),
}


def send_once(collective: Collective, placement: Placement, links: ScaleUp) -> MessageCost:
    """Return the cost of an exchange in which a token is sent once to each target, not once per expert.

    Raises:
        ValueError: The collective does not say how tokens spread over experts.
    """
    routing = collective.routing
    if routing is None:
        raise ValueError(f"{collective.kernel} needs to know how tokens spread over experts")
    reach = KERNELS[collective.kernel]
    n, local, domains = placement.ranks, placement.ranks_per_domain, placement.domains
    once = collective.bytes / routing.copies
    inside = once * expected_targets(routing, n) * (local - 1) / local
    inside_s = inside / (links.link_bytes_per_s * reach.link_fraction)
    corrections = links.corrections
    fixed = corrections.start_s + nccl.SIMPLE.base_s + links.hop_s + nccl.SIMPLE.hop_extra_s
    if placement.one_domain:
        return _cost(collective, fixed, inside, inside_s, uses_network=False)
    rate = placement.nic_bytes_per_s * reach.nic_fraction
    wire = once * expected_targets(routing, domains) * (domains - 1) / domains
    outside_s = max(
        wire * (n - crossing.ranks_below) / (n - local) * crossing.oversubscription / rate
        for crossing in placement.crossings
    )
    fixed += nccl.SIMPLE.ring_network_s + placement.path_latency_s
    return _cost(collective, fixed, wire, max(inside_s, wire / rate, outside_s), uses_network=True)


def _cost(
    collective: Collective, fixed_s: float, wire: float, transfer_s: float, *, uses_network: bool
) -> MessageCost:
    return MessageCost(
        fixed_s=fixed_s,
        wire_bytes=wire,
        bytes_per_s=wire / transfer_s if transfer_s else 1.0,
        uses_network=uses_network,
        algorithm=collective.kernel,
    )
