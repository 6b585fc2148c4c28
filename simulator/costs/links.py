"""The links that one rank of a group has inside its scale-up domain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.costs.nccl_constants import Corrections, fitted_corrections

if TYPE_CHECKING:
    from simulator.scenario.gpu import Gpu


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleUp:
    """What the ranks of a group reach inside one scale-up domain.

    Attributes:
        link_bytes_per_s: One-way bandwidth of a rank towards the other ranks of its group.
        ring_bytes_per_s: What a ring reaches of it.
        reduction_bytes_per_s: What an all-reduce in the switches reaches of it; 0 without.
        exchange_bytes_per_s: What all-to-all reaches of it.
        message_bytes_per_s: What one point-to-point message reaches.
        hop_s: Latency of one hop.
        corrections: What measurements add to NCCL's own tables.
    """

    link_bytes_per_s: float
    ring_bytes_per_s: float
    reduction_bytes_per_s: float
    exchange_bytes_per_s: float
    message_bytes_per_s: float
    hop_s: float
    corrections: Corrections = field(default_factory=fitted_corrections)


def scale_up_links(gpu: Gpu, domain: int, ranks: int, *, are_neighbours: bool = False) -> ScaleUp:
    """Return the links among ``ranks`` GPUs of one domain.

    In a mesh (xGMI, the NVLink cube of DGX-1) every pair has its own link, so that few ranks reach only few
    links: two MI300X have one of seven, 64 of 448 GB/s. The two dies of an MI250X have links of their own,
    200 GB/s. Behind a switch, any pair has all the bandwidth.

    Args:
        gpu: The accelerator.
        domain: Accelerators of the domain.
        ranks: Ranks of the group inside it.
        are_neighbours: Whether they follow each other, so that two may share a card.
    """
    pair = 1.0
    share = 1.0
    if gpu.scale_up_topology == "mesh" and domain > 1:
        pair = 1 / (domain - 1)
        share = max(1, ranks - 1) * pair
    if are_neighbours and gpu.partner_bytes_per_s and ranks == 2:
        pair = share = gpu.partner_bytes_per_s / gpu.scale_up_bytes_per_s
    reach = gpu.collectives
    link = gpu.scale_up_bytes_per_s * share
    return ScaleUp(
        link_bytes_per_s=link,
        ring_bytes_per_s=link * reach.ring_fraction,
        reduction_bytes_per_s=link * reach.reduction_fraction if gpu.has_in_network_reduction else 0.0,
        exchange_bytes_per_s=link * reach.exchange_fraction,
        message_bytes_per_s=gpu.scale_up_bytes_per_s * pair * reach.ring_fraction,
        hop_s=gpu.scale_up_latency_s,
    )
