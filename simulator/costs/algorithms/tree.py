"""All-reduce by double binary trees, in the switches (NVLS), and by trees between switches (NVLSTree)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from simulator.costs import nccl_constants as nccl
from simulator.costs.message import MessageCost, pipeline_fill_s

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.costs.links import ScaleUp
    from simulator.costs.topology import Placement
    from simulator.workload.work import CollectiveKind


def tree(kind: CollectiveKind, size: float, placement: Placement, links: ScaleUp) -> Iterator[MessageCost]:
    """Yield the cost of a double binary tree in each protocol; the ranks of a domain form a chain.

    Every domain sends the whole buffer up and down: 2 S, or S where there are only two.
    """
    if kind != "all_reduce":
        return
    lanes, depth = placement.ranks_per_domain, math.log2(placement.domains)
    widest = links.link_bytes_per_s * links.corrections.tree_channel_share / lanes
    for protocol in nccl.PROTOCOLS:
        cap = math.inf
        if protocol is nccl.LL:
            cap = links.link_bytes_per_s * nccl.LL_SHARES[min(placement.domains, 3) - 1]
        share = nccl.TREE_SHARE * protocol.payload
        hops = 2 * (lanes - 1) * (links.hop_s + protocol.hop_extra_s) + 2 * depth * protocol.tree_network_s
        inside = min(links.ring_bytes_per_s * share, cap)
        yield _pipelined(
            f"tree {protocol.name}",
            latency_s=protocol.base_s + links.corrections.start_s + hops,
            size=size,
            inside_s=2 * size / inside if lanes > 1 else 0.0,
            network_bytes_per_s=min(min(placement.ring_bytes_per_s, widest) * share, cap / lanes),
            placement=placement,
            fill=links.corrections.pipeline_fill,
        )


def nvls(kind: CollectiveKind, size: float, placement: Placement, links: ScaleUp) -> Iterator[MessageCost]:
    """Yield the cost of an all-reduce by switches that add, where there are such switches.

    Inside a domain, a rank sends its S bytes to be added and S/n of results to be multicast; across domains
    the results are added up along a double binary tree. On five to eight H200 this gives the measured growth
    of the bus bandwidth from 414 to 473 GB/s at one and the same link rate (ml-engineering, 8 GiB).
    """
    local = placement.ranks_per_domain
    if kind != "all_reduce" or not links.reduction_bytes_per_s or local < 2:
        return
    moved, fill = size * (1 + 1 / local), links.corrections.pipeline_fill
    inside_s = moved / links.reduction_bytes_per_s
    if placement.one_domain:
        yield MessageCost(
            fixed_s=nccl.NVLS_S + pipeline_fill_s(fill, nccl.NVLS_S, inside_s),
            wire_bytes=moved,
            bytes_per_s=links.reduction_bytes_per_s,
            uses_network=False,
            algorithm="NVLS",
        )
        return
    yield _pipelined(
        "NVLSTree",
        latency_s=nccl.NVLS_S
        + links.corrections.start_s
        + 2 * math.log2(placement.domains) * nccl.NVLS_TREE_NETWORK_S,
        size=size,
        inside_s=inside_s,
        network_bytes_per_s=placement.ring_bytes_per_s,
        placement=placement,
        fill=fill,
    )


def _pipelined(
    name: str,
    *,
    latency_s: float,
    size: float,
    inside_s: float,
    network_bytes_per_s: float,
    placement: Placement,
    fill: float,
) -> MessageCost:
    """Return the cost of a tree whose slowest part is the network or the inside of a domain."""
    latency_s += 2 * placement.tree_latency_s
    if placement.one_domain:
        wire, transfer_s = 2 * size, inside_s
    else:
        wire = size * min(2, placement.domains - 1) / placement.ranks_per_domain
        transfer_s = max(wire / network_bytes_per_s, inside_s)
    return MessageCost(
        fixed_s=latency_s + pipeline_fill_s(fill, latency_s, transfer_s),
        wire_bytes=wire,
        bytes_per_s=wire / transfer_s if transfer_s else 1.0,
        uses_network=not placement.one_domain,
        algorithm=name,
    )


ALGORITHMS = (tree, nvls)
