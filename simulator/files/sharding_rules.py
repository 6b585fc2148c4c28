"""Data-parallel sharding: the words users have for it, its rules and its defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.scenario.sharding import (
    KEEPS_WEIGHTS,
    reduces_every_microbatch,
    reshards_after_forward,
    sharding_of,
)

if TYPE_CHECKING:
    from simulator.files.report import Findings
    from simulator.files.scenario_file import ScenarioFile
    from simulator.files.sections import ParallelismSection
    from simulator.scenario import Cluster, Parallelism, Software

_HYBRID = ("hybrid", "hsdp")


def check_sharding(section: ParallelismSection, dp: int, findings: Findings) -> None:
    """Check shard size and replicas against the data-parallel ranks and against each other."""
    size, replicas = section.shard_size, section.shard_replicas
    for key, value in (("shard_size", size), ("shard_replicas", replicas)):
        if value is not None and dp % value:
            near = ", ".join(map(str, _near_divisors(dp, value)))
            findings.problem(f"parallelism.{key}", f"{value} does not divide dp = {dp}; nearest: {near}")
    if size is not None and replicas is not None and size * replicas != dp:
        findings.problem(
            "parallelism.shard_replicas",
            f"shard_size x shard_replicas = {size} x {replicas} = {size * replicas}, but dp is {dp}; "
            "give one of them",
        )
    if section.sharding == KEEPS_WEIGHTS and section.reshard_after_forward:
        findings.problem(
            "parallelism.reshard_after_forward",
            "shard_grad_op keeps weights until the backward pass; use full_shard to gather them twice",
        )


def _near_divisors(dp: int, value: int) -> list[int]:
    divisors = [number for number in range(1, dp + 1) if dp % number == 0]
    below = [number for number in divisors if number < value][-1:]
    return below + [number for number in divisors if number > value][:1]


def with_sharding(
    parallelism: Parallelism, section: ParallelismSection, cluster: Cluster, software: Software
) -> Parallelism:
    """Fill in the settings of data-parallel sharding, given or usual."""
    word, pp = section.sharding, section.pp
    return replace(
        parallelism,
        sharding=sharding_of(word),
        shard_size=_shard_size(section, parallelism, cluster),
        reshard_after_forward=reshards_after_forward(word, pp, section.reshard_after_forward),
        prefetch=section.prefetch,
        reduce_every_microbatch=reduces_every_microbatch(
            word, pp, section.reduce_every_microbatch, usual=software.reduce_every_microbatch
        ),
    )


def _shard_size(section: ParallelismSection, parallelism: Parallelism, cluster: Cluster) -> int | None:
    """Return the data-parallel ranks of a shard group: hybrid sharding divides within a node."""
    dp = parallelism.dp
    if section.shard_replicas is not None:
        return dp // section.shard_replicas
    if section.shard_size is not None or section.sharding not in _HYBRID:
        return section.shard_size
    in_node = max(1, cluster.gpus_per_node // (parallelism.tp * parallelism.cp))
    return max(number for number in range(1, min(dp, in_node) + 1) if dp % number == 0)


def idle_settings(
    file: ScenarioFile, parallelism: Parallelism, replicas: int
) -> tuple[tuple[bool, str, str], ...]:
    """Return settings of sharding that may change nothing: whether so, which and why."""
    section, training = file.parallelism, file.training
    given = section.model_fields_set
    sharding, alone = parallelism.sharding, "dp x cp is 1"
    microbatches = training.global_batch_size // (training.micro_batch_size * parallelism.dp)
    whole = (sharding != "zero3", "weights are gathered layer by layer with sharding zero3 only")
    divided = (sharding == "none", "sharding is none")
    single = (replicas == 1, alone)
    reasons: dict[str, tuple[tuple[bool, str], ...]] = {
        "shard_size": (single, divided),
        "shard_replicas": (single, divided),
        "reshard_after_forward": (single, whole),
        "prefetch": (single, whole, (training.overlap.param_gather is False, "gathers are not overlapped")),
        "reduce_every_microbatch": (single, (microbatches == 1, "a step has one micro-batch")),
    }
    idle = [
        (applies, f"parallelism.{key}", why)
        for key, causes in reasons.items()
        if key in given
        for applies, why in causes[:1] + tuple(cause for cause in causes[1:] if not causes[0][0])
    ]
    if "reduce_dtype" in training.model_fields_set:
        idle.append((replicas == 1, "training.reduce_dtype", alone))
    return tuple(idle)
