"""All-to-all and point-to-point messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.costs import nccl_constants as nccl
from simulator.costs.message import MessageCost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.costs.links import ScaleUp
    from simulator.costs.topology import Placement
    from simulator.workload.work import CollectiveKind


def all_to_all(
    kind: CollectiveKind, size: float, placement: Placement, links: ScaleUp
) -> Iterator[MessageCost]:
    """Yield the cost of an exchange of S/n bytes with each of n ranks, S being what a rank sends in total.

    Peers inside the domain are served first, those outside after them: NCCL's order of point-to-point rounds
    goes from node to node, starting with the own one (``p2pSchedule``, src/init.cc). What leaves a unit of
    the network pays that tier's oversubscription, as all ranks send across it at once.
    """
    if kind != "all_to_all":
        return
    n, local = placement.ranks, placement.ranks_per_domain
    inside_s = size * (local - 1) / n / links.exchange_bytes_per_s if local > 1 else 0.0
    corrections = links.corrections
    base = corrections.start_s + nccl.SIMPLE.base_s + links.hop_s + nccl.SIMPLE.hop_extra_s
    fixed = base + (local - 1) * corrections.peer_s
    if placement.one_domain:
        wire, transfer_s = size * (n - 1) / n, inside_s
    else:
        fixed += (
            nccl.SIMPLE.ring_network_s + (n - local) * corrections.network_peer_s + placement.path_latency_s
        )
        wire = size * (n - local) / n
        outside = (
            size * (n - crossing.ranks_below) / n * crossing.oversubscription / placement.nic_bytes_per_s
            for crossing in placement.crossings
        )
        transfer_s = inside_s + max(wire / placement.nic_bytes_per_s, *outside)
    yield MessageCost(
        fixed_s=fixed,
        wire_bytes=wire,
        bytes_per_s=wire / transfer_s if transfer_s else 1.0,
        uses_network=not placement.one_domain,
        algorithm="pairwise exchange",
    )


def message(size: float, placement: Placement, links: ScaleUp) -> MessageCost:
    """Return the cost of one point-to-point message between two ranks, in the faster of NCCL's protocols."""
    costs = []
    for protocol in (nccl.LL, nccl.SIMPLE):
        if placement.one_domain:
            hop, rate = links.hop_s + protocol.hop_extra_s, links.message_bytes_per_s
        else:
            hop, rate = protocol.ring_network_s + placement.path_latency_s, placement.ring_bytes_per_s
        costs.append(
            MessageCost(
                fixed_s=protocol.base_s + hop,
                wire_bytes=size,
                bytes_per_s=rate * protocol.payload,
                uses_network=not placement.one_domain,
                algorithm=f"send {protocol.name}",
            )
        )
    return min(costs, key=lambda cost: cost.alone_s)


ALGORITHMS = (all_to_all,)
