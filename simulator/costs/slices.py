"""Collectives over several slices of TPU pods: the torus inside, the data-centre network between them.

Each chip sends only its share of the data between slices, through its part of the host's NIC (Austin et al.,
"How to Scale Your Model", 2025, chapter 5, "Scaling Across Pods"): an all-reduce is a reduce-scatter in the
slice, an all-reduce of the shares among the slices and an all-gather in the slice, one after the other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.costs import torus
from simulator.costs.message import FREE, MessageCost
from simulator.costs.topology import place
from simulator.workload.work import Collective, Group

if TYPE_CHECKING:
    from simulator.scenario.cluster import Cluster
    from simulator.workload.work import CollectiveKind


def within_slice(collective: Collective, cluster: Cluster) -> MessageCost:
    """Return the cost of a collective whose ranks share a slice."""
    if collective.group.size <= 1:
        return FREE
    pod = cluster.network.torus
    shape = torus.slice_shape(pod, min(cluster.gpus, cluster.scale_up_domain))
    axes = torus.spans(collective.group, pod, shape)
    hop_s = cluster.gpu.scale_up_latency_s
    return torus.torus_collective(collective.kind, collective.bytes, axes, link_bytes_per_s(cluster), hop_s)


def link_bytes_per_s(cluster: Cluster) -> float:
    """Return what large messages reach of one link of the torus, one way."""
    links = 2 * len(cluster.network.torus)
    return cluster.gpu.scale_up_bytes_per_s / links * cluster.gpu.collectives.ring_fraction


def across_slices(collective: Collective, cluster: Cluster) -> MessageCost:
    """Return the cost of a collective over several slices."""
    group = collective.group
    inside = min(group.size, max(1, cluster.scale_up_domain // group.stride))
    slices = -(-group.size // inside)
    near = Group(axis=group.axis, size=inside, stride=group.stride)
    far = Group(axis=group.axis, size=slices, stride=group.stride * inside)
    shared: tuple[CollectiveKind, ...] = (collective.kind,)
    near_bytes, far_bytes = collective.bytes, collective.bytes / inside
    if collective.kind == "all_reduce":
        shared = ("reduce_scatter", "all_gather")
    elif collective.kind == "all_to_all":
        near_bytes, far_bytes = collective.bytes / slices, collective.bytes
    local_s = sum(
        within_slice(replace(collective, kind=kind, group=near, bytes=near_bytes), cluster).alone_s
        for kind in shared
    )
    laps = 2 if collective.kind == "all_reduce" else 1
    placement = place(far, cluster.network, domain=cluster.scale_up_domain, gpus=cluster.gpus)
    hops = laps * (slices - 1) / slices
    return MessageCost(
        fixed_s=torus.START_S + local_s + hops * placement.ring_latency_s,
        wire_bytes=hops * far_bytes,
        bytes_per_s=placement.ring_bytes_per_s,
        uses_network=True,
        algorithm="torus and data-centre network",
    )
