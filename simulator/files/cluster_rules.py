"""Rules of the hardware: slices of a pod, pools against pipeline ranks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from simulator.files.clusters import gpu_of, network_of
from simulator.files.findings import Findings, nearest_divisors, nearest_multiples

if TYPE_CHECKING:
    from simulator.files.cluster_section import PoolSection
    from simulator.files.scenario_file import ScenarioFile
    from simulator.scenario import Cluster, Parallelism, Pool


def check_cluster(file: ScenarioFile, findings: Findings) -> None:
    """Check slices and pools."""
    if file.cluster.num_slices:
        _slices(file, findings)
    if file.cluster.pools:
        _pools(file, findings)


def _slices(file: ScenarioFile, findings: Findings) -> None:
    cluster, slices = file.cluster, file.cluster.num_slices or 1
    path = "cluster.num_slices"
    torus = network_of(cluster.network, gpu_of(cluster.gpu)).torus
    if not torus:
        findings.problem(
            path, "slices are parts of a torus (TPU); other accelerators have a 'scale_up_domain'"
        )
        return
    if cluster.scale_up_domain:
        findings.problem(path, "give 'num_slices' or 'scale_up_domain' (the chips of a slice), not both")
    if cluster.gpus % slices:
        near = nearest_divisors(cluster.gpus, slices)
        findings.problem(path, f"{cluster.gpus} chips do not divide into {slices} slices; nearest: {near}")
        return
    chips, pod = cluster.gpus // slices, math.prod(torus)
    if chips > pod:
        shape = " x ".join(map(str, torus))
        findings.problem(
            path,
            f"a slice of {chips} chips exceeds the pod of {shape} = {pod}; "
            f"use {-(-cluster.gpus // pod)} slices or more",
        )


def _pools(file: ScenarioFile, findings: Findings) -> None:
    degrees, cluster = file.parallelism, file.cluster
    if degrees.placement[-1:] != ["pp"]:
        findings.problem(
            "parallelism.placement",
            "pools hold whole pipeline ranks: pp must be the outermost (last) axis beside cluster.pools",
        )
    if len(cluster.pools) > degrees.pp:
        findings.problem(
            "parallelism.pp",
            f"{len(cluster.pools)} pools need a pipeline of as many ranks or more, but pp is {degrees.pp}",
        )
        return
    if cluster.gpus % degrees.pp:
        return
    per_rank = cluster.gpus // degrees.pp
    for number, pool in enumerate(cluster.pools):
        if pool.gpus % per_rank:
            findings.problem(
                f"cluster.pools.{number}.gpus",
                f"{pool.gpus} GPUs are no multiple of the {per_rank} of one pipeline rank "
                f"({cluster.gpus} / pp = {degrees.pp}); nearest: {nearest_multiples(pool.gpus, per_rank)}",
            )


def warn_of_networks(file: ScenarioFile, cluster: Cluster, findings: Findings) -> None:
    """Name networks that are assumed, and one that no message enters."""
    section = file.cluster
    parts = [(pool.network or section.network, cluster.part(part)) for pool, part in _pairs(file, cluster)]
    for given, part in parts or [(section.network, cluster)]:
        leaves = bool(parts) or cluster.gpus > cluster.scale_up_domain
        if given is None and leaves and not part.network.torus:
            rate = part.network.bytes_per_s_per_gpu * 8e-9
            findings.warn(
                f"cluster.network is assumed: {rate:g} Gb/s per GPU on a non-blocking rail-optimised fabric, "
                f"the usual server of {part.gpu.name}"
            )
        if given is not None and not leaves and not part.network.torus:
            findings.warn("cluster.network has no effect: all GPUs share one scale-up domain")


def idle_cluster_settings(
    file: ScenarioFile, cluster: Cluster, degrees: Parallelism
) -> tuple[tuple[bool, str, str], ...]:
    """Return settings of the hardware that may be idle: whether they are, their path, and why."""
    section, layout = file.cluster, file.parallelism
    by_node = layout.sharding in {"hybrid", "hsdp"} and not (layout.shard_size or layout.shard_replicas)
    nodes = section.gpus_per_node not in {None, gpu_of(section.gpu).gpus_per_node}
    prices = [section.price_per_gpu_hour, *(pool.price_per_gpu_hour for pool in section.pools)]
    one_domain = not cluster.pools and not cluster.network.torus and cluster.gpus <= cluster.scale_up_domain
    axes = sum(ranks > 1 for ranks in (degrees.tp, degrees.cp, degrees.dp, degrees.pp))
    placed = "placement" in layout.model_fields_set
    return (
        (
            nodes and not by_node,
            "cluster.gpus_per_node",
            "only hybrid sharding looks at hosts; scale_up_domain says which GPUs share fast links",
        ),
        (
            section.scale_up_domain is not None and cluster.gpus == 1,
            "cluster.scale_up_domain",
            "there is one GPU",
        ),
        (
            any(price is not None for price in prices) and file.training.tokens is None,
            "cluster.price_per_gpu_hour",
            "training.tokens is not given",
        ),
        (placed and axes <= 1, "parallelism.placement", "one axis at most has several ranks"),
        (placed and axes > 1 and one_domain, "parallelism.placement", "all GPUs share one scale-up domain"),
    )


def _pairs(file: ScenarioFile, cluster: Cluster) -> list[tuple[PoolSection, Pool]]:
    return list(zip(file.cluster.pools, cluster.pools, strict=True))
