"""Data-parallel sharding: its defaults, and settings without effect."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.scenario.sharding import (
    reduces_every_microbatch,
    reshards_after_forward,
    sharding_of,
)

if TYPE_CHECKING:
    from simulator.files.scenario_file import ScenarioFile
    from simulator.files.sections import ParallelismSection
    from simulator.scenario import Cluster, Parallelism, Software

_HYBRID = ("hybrid", "hsdp")


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
