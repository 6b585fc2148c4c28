"""Ring collectives and PAT, as NCCL runs and predicts them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from simulator.costs import nccl_constants as nccl
from simulator.costs.message import MessageCost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.costs.links import ScaleUp
    from simulator.costs.topology import Placement
    from simulator.workload.work import CollectiveKind

LAPS = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1, "broadcast": 1}
"""How often the data travel around the ring."""


def bus_bytes_per_s(placement: Placement, links: ScaleUp) -> float:
    """Return the rate of a ring over all ranks: its slowest edge.

    A group with r ranks per domain leaves it through r NICs, in r rings side by side.

    Eight H100 of a node and 8 x 400 Gb/s: min(360, 8 x 50) GB/s; see ``tests/test_collectives.py``.
    """
    if placement.one_domain:
        return links.ring_bytes_per_s
    network = placement.ranks_per_domain * placement.ring_bytes_per_s
    return min(links.ring_bytes_per_s, network) if placement.ranks_per_domain > 1 else network


def ring(kind: CollectiveKind, size: float, placement: Placement, links: ScaleUp) -> Iterator[MessageCost]:
    """Yield the cost of a ring in each protocol.

    Time = base + hops + laps (n-1)/n S / rate (Thakur, Rabenseifner, Gropp 2005, section 4), with NCCL's
    base and hop latencies; a broadcast sends S along the chain instead.

    Args:
        kind: ``all_reduce``, ``all_gather``, ``reduce_scatter`` or ``broadcast``.
        size: Bytes in the convention of nccl-tests.
        placement: Where the ranks lie.
        links: Their links inside a domain.
    """
    if kind not in LAPS:
        return
    n, laps = placement.ranks, LAPS[kind]
    bus = bus_bytes_per_s(placement, links)
    moved = size if kind == "broadcast" else laps * (n - 1) / n * size
    network_hops = laps * placement.domains if not placement.one_domain else 0
    local_hops = max(0, laps * (n - 1) - network_hops)
    for protocol in nccl.PROTOCOLS:
        rate = bus * protocol.payload
        if protocol is nccl.LL:
            rate = min(rate, links.link_bytes_per_s * nccl.LL_SHARES[min(placement.domains, 3) - 1])
        hops = local_hops * (links.hop_s + protocol.hop_extra_s) + network_hops * protocol.ring_network_s
        if protocol is not nccl.SIMPLE and not placement.one_domain:
            hops *= links.corrections.network_hop_factor
        elif kind == "all_reduce" and not placement.one_domain:
            hops *= nccl.PLATEAU
        hops += laps * placement.ring_latency_s + links.corrections.start_s
        yield _message(f"ring {protocol.name}", protocol.base_s + hops, moved, rate, placement)


def parallel_aggregated_trees(
    kind: CollectiveKind, size: float, placement: Placement, links: ScaleUp
) -> Iterator[MessageCost]:
    """Yield the cost of PAT: all-gather and reduce-scatter in log2(n) network hops, one rank per domain.

    NCCL 2.23 and later (Jeaugey, "PAT: a new algorithm for all-gather and reduce-scatter operations at
    scale", arXiv:2506.20252).
    """
    if kind not in {"all_gather", "reduce_scatter"} or placement.ranks_per_domain > 1:
        return
    n = placement.ranks
    latency = nccl.PAT_BASE_S + math.log2(n) * nccl.PAT_NETWORK_S + n * nccl.PAT_RANK_S
    latency += placement.tree_latency_s + links.corrections.start_s
    rate = bus_bytes_per_s(placement, links) * nccl.PAT_SHARE
    yield _message("PAT", latency, (n - 1) / n * size, rate, placement)


def _message(name: str, fixed_s: float, moved: float, bus: float, placement: Placement) -> MessageCost:
    lanes = 1 if placement.one_domain else placement.ranks_per_domain
    return MessageCost(
        fixed_s=fixed_s,
        wire_bytes=moved / lanes,
        bytes_per_s=bus / lanes,
        uses_network=not placement.one_domain,
        algorithm=name,
    )


ALGORITHMS = (ring, parallel_aggregated_trees)
