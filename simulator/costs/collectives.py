"""What collectives and transfers cost: every algorithm that could run is priced, the fastest one runs.

This is NCCL's own rule (``ncclTopoGetAlgoTime``, src/graph/tuning.cc, commit 5067397c): argmin over
algorithms and protocols. The files of ``algorithms/`` hold them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.costs import torus
from simulator.costs.algorithms import ALGORITHMS
from simulator.costs.algorithms.exchange import message
from simulator.costs.links import ScaleUp, scale_up_links
from simulator.costs.message import FREE, MessageCost
from simulator.costs.send_once import send_once
from simulator.costs.slices import across_slices, link_bytes_per_s, within_slice
from simulator.costs.topology import Placement, place
from simulator.workload.work import Collective, CollectiveKind, Group, Transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.scenario.cluster import Cluster

__all__ = ["MessageCost", "collective_cost", "leaves_domain", "transfer_cost"]


def collective_cost(collective: Collective, cluster: Cluster) -> MessageCost:
    """Return what a collective costs each of its ranks, while all groups of its axis run theirs.

    Args:
        collective: Kind, group and size; the size in the convention of nccl-tests.
        cluster: The hardware; global ranks fill its domains in order.
    """
    group = collective.group
    if group.size <= 1:
        return FREE
    if collective.messages > 1:
        count = collective.messages
        part = collective_cost(replace(collective, bytes=collective.bytes / count, messages=1), cluster)
        return replace(part, fixed_s=count * part.fixed_s, wire_bytes=count * part.wire_bytes)
    if cluster.network.torus:
        fits = group.size * group.stride <= cluster.scale_up_domain
        return within_slice(collective, cluster) if fits else across_slices(collective, cluster)
    placement = place(group, cluster.network, domain=cluster.scale_up_domain, gpus=cluster.gpus)
    near = group.stride == 1
    links = scale_up_links(
        cluster.gpu, cluster.scale_up_domain, placement.ranks_per_domain, are_neighbours=near
    )
    if collective.kernel != "nccl":
        return send_once(collective, placement, links)
    costs = candidates(collective.kind, collective.bytes, placement, links)
    return min(costs, key=lambda cost: cost.alone_s)


def candidates(
    kind: CollectiveKind, size: float, placement: Placement, links: ScaleUp
) -> Iterator[MessageCost]:
    """Yield the cost of every algorithm and protocol that can carry out a collective."""
    for algorithm in ALGORITHMS:
        yield from algorithm(kind, size, placement, links)


def transfer_cost(transfer: Transfer, cluster: Cluster) -> MessageCost:
    """Return what a point-to-point message costs, while every rank sends its own."""
    domain = cluster.scale_up_domain
    stays = not leaves_domain(transfer, cluster)
    if stays and cluster.network.torus:
        return _torus_message(transfer, cluster)
    pair = Group(axis="pp", size=2, stride=1 if stays else max(transfer.stride, domain))
    placement = place(pair, cluster.network, domain=max(2, domain) if stays else domain, gpus=cluster.gpus)
    near = transfer.stride == 1
    return message(transfer.bytes, placement, scale_up_links(cluster.gpu, domain, 2, are_neighbours=near))


def leaves_domain(transfer: Transfer, cluster: Cluster) -> bool:
    """Tell whether a message crosses the network.

    That follows from where sender and receiver lie: program ranks of a pipeline are
    ``stride / |target - source|`` global ranks apart, from rank 0 on. Sender and receiver of the same program
    rank stand for a shift of all ranks by ``stride``, as in ring attention: one of a ring's hops leaves the
    domain unless all its ranks are inside, and the others wait for it.
    """
    if transfer.source == transfer.target:
        return max(transfer.stride, transfer.span) >= cluster.scale_up_domain
    apart = transfer.stride // abs(transfer.target - transfer.source)
    return lie_apart(transfer.source, transfer.target, apart, cluster)


def lie_apart(source: int, target: int, stride: int, cluster: Cluster) -> bool:
    """Tell whether two pipeline ranks, neighbours ``stride`` global ranks apart, are in different domains."""
    domain = cluster.scale_up_domain
    return source * stride // domain != target * stride // domain


def _torus_message(transfer: Transfer, cluster: Cluster) -> MessageCost:
    return MessageCost(
        fixed_s=torus.START_S + cluster.gpu.scale_up_latency_s,
        wire_bytes=transfer.bytes,
        bytes_per_s=link_bytes_per_s(cluster),
        uses_network=False,
        algorithm="torus neighbour",
    )
