"""Warnings: settings without effect, and layouts that are allowed but rarely meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.files.cluster_rules import idle_cluster_settings, warn_of_networks
from simulator.files.context_rules import idle_context_settings
from simulator.files.memory_rules import idle_memory_settings
from simulator.files.sharding_rules import idle_settings

if TYPE_CHECKING:
    from simulator.files.findings import Findings
    from simulator.files.scenario_file import ScenarioFile
    from simulator.scenario import Cluster, Model, Parallelism


def warn(
    file: ScenarioFile, cluster: Cluster, degrees: Parallelism, model: Model, findings: Findings
) -> None:
    """Note every setting of the file that changes nothing, and every unusual layout."""
    _without_effect(file, cluster, degrees, model, findings)
    domain = cluster.scale_up_domain
    if degrees.tp > domain:
        findings.warn(
            f"parallelism.tp = {degrees.tp} is larger than the scale-up domain of {domain} GPUs: "
            "tensor-parallel traffic crosses the network"
        )
    if cluster.gpus > cluster.gpus_per_node and cluster.gpus % cluster.gpus_per_node:
        findings.warn(f"cluster.gpus = {cluster.gpus} does not fill nodes of {cluster.gpus_per_node} GPUs")
    warn_of_networks(file, cluster, findings)
    microbatches = file.training.global_batch_size // (file.training.micro_batch_size * degrees.dp)
    if degrees.pp > 1 and microbatches < degrees.pp:
        findings.warn(
            f"{microbatches} micro-batches do not fill a pipeline of pp = {degrees.pp} ranks: a large bubble"
        )


def _without_effect(
    file: ScenarioFile, cluster: Cluster, degrees: Parallelism, model: Model, findings: Findings
) -> None:
    overlap = file.training.overlap
    replicas = degrees.dp * degrees.cp
    settings: tuple[tuple[bool, str, str], ...] = (
        (
            file.parallelism.sequence_parallel is not None and degrees.tp == 1,
            "parallelism.sequence_parallel",
            "tp is 1",
        ),
        (degrees.sharding != "none" and replicas == 1, "parallelism.sharding", "dp x cp is 1"),
        (overlap.p2p is not None and degrees.pp == 1, "training.overlap.p2p", "pp is 1"),
        (
            file.simulation.seed != 0,
            "simulation.seed",
            "one step draws nothing at random; simulator montecarlo does",
        ),
        (
            file.simulation.noise is not None,
            "simulation.noise",
            "one step is simulated without it; simulator montecarlo draws it",
        ),
        (bool(overlap.tp) and degrees.tp == 1, "training.overlap.tp", "tp is 1"),
        (overlap.grad_reduce is not None and replicas == 1, "training.overlap.grad_reduce", "dp x cp is 1"),
        (
            overlap.param_gather is not None and (degrees.sharding == "none" or replicas == 1),
            "training.overlap.param_gather",
            "parameters are not gathered without sharding",
        ),
        (
            file.parallelism.microbatch_group_size is not None and degrees.vpp == 1,
            "parallelism.microbatch_group_size",
            "vpp is 1",
        ),
        (
            file.training.post_validation is not None and degrees.gpus == 1,
            "training.post_validation",
            "there is one GPU",
        ),
        *idle_cluster_settings(file, cluster, degrees),
        *idle_context_settings(file, degrees, model),
        *idle_settings(file, degrees, replicas),
        *idle_memory_settings(file, degrees, model),
    )
    for is_idle, path, why in settings:
        if is_idle:
            findings.warn(f"{path} has no effect: {why}")
