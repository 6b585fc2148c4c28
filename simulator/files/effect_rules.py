"""Warnings: settings without effect, and layouts that are allowed but rarely meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.files.context_rules import idle_context_settings
from simulator.files.sharding_rules import idle_settings
from simulator.files.memory_rules import idle_memory_settings

if TYPE_CHECKING:
    from simulator.files.report import Findings
    from simulator.files.scenario_file import ScenarioFile
    from simulator.scenario import Cluster, Model, Parallelism


def warn(
    file: ScenarioFile, cluster: Cluster, degrees: Parallelism, model: Model, findings: Findings
) -> None:
    """Note every setting of the file that changes nothing, and every unusual layout."""
    _without_effect(file, degrees, model, findings)
    domain = cluster.scale_up_domain
    if degrees.tp > domain:
        findings.warn(
            f"parallelism.tp = {degrees.tp} is larger than the scale-up domain of {domain} GPUs: "
            "tensor-parallel traffic crosses the network"
        )
    if cluster.gpus > cluster.gpus_per_node and cluster.gpus % cluster.gpus_per_node:
        findings.warn(f"cluster.gpus = {cluster.gpus} does not fill nodes of {cluster.gpus_per_node} GPUs")
    if file.cluster.network is None and cluster.gpus > domain:
        rate = cluster.network.bytes_per_s_per_gpu * 8e-9
        findings.warn(
            f"cluster.network is assumed: {rate:g} Gb/s per GPU on a non-blocking rail-optimised fabric, "
            f"the usual server of {cluster.gpu.name}"
        )
    if file.cluster.network is not None and cluster.gpus <= domain:
        findings.warn("cluster.network has no effect: all GPUs share one scale-up domain")
    microbatches = file.training.global_batch_size // (file.training.micro_batch_size * degrees.dp)
    if degrees.pp > 1 and microbatches < degrees.pp:
        findings.warn(
            f"{microbatches} micro-batches do not fill a pipeline of pp = {degrees.pp} ranks: a large bubble"
        )


def _without_effect(
    file: ScenarioFile, degrees: Parallelism, model: Model, findings: Findings
) -> None:
    overlap = file.training.overlap
    replicas = degrees.dp * degrees.cp
    settings: tuple[tuple[bool, str, str], ...] = (
        (
            bool(file.parallelism.sequence_parallel) and degrees.tp == 1,
            "parallelism.sequence_parallel",
            "tp is 1",
        ),
        (degrees.sharding != "none" and replicas == 1, "parallelism.sharding", "dp x cp is 1"),
        (bool(overlap.p2p) and degrees.pp == 1, "training.overlap.p2p", "pp is 1"),
        (bool(overlap.tp) and degrees.tp == 1, "training.overlap.tp", "tp is 1"),
        (bool(overlap.grad_reduce) and replicas == 1, "training.overlap.grad_reduce", "dp x cp is 1"),
        (
            bool(overlap.param_gather) and (degrees.sharding == "none" or replicas == 1),
            "training.overlap.param_gather",
            "parameters are not gathered without sharding",
        ),
        *idle_context_settings(file, degrees, model),
        *idle_settings(file, degrees, replicas),
        *idle_memory_settings(file, degrees, model),
    )
    for is_idle, path, why in settings:
        if is_idle:
            findings.warn(f"{path} has no effect: {why}")
