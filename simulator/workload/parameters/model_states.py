"""What a pipeline rank holds besides activations: weights, gradients, optimizer state and buffers.

Rajbhandari et al. (ZeRO), arXiv:1910.02054, section 5; FSDP, arXiv:2304.11277, sections 3.2 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.scenario.remembered import remembered
from simulator.workload.layers.local_sizes import BYTES_PER_ELEMENT, wide_dtype
from simulator.workload.parameters.buckets import unit_parts
from simulator.workload.parameters.bytes import layer_weight_bytes
from simulator.workload.parameters.counts import (
    gradient_bytes,
    rank_parameters,
    reduced_bytes,
    stage_parameters,
    sums_gradients_locally,
    weight_bytes,
)
from simulator.workload.parameters.optimizer_offload import held_state_bytes
from simulator.workload.parameters.sharding import dense_sharing, expert_sharing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.workload.parameters.counts import StageParameters
    from simulator.workload.parameters.stage_outline import Outline

MASTER_BYTES = 4
"""An fp32 master copy of each weight (mixed-precision training, arXiv:1710.03740)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticMemory:
    """Bytes that a pipeline rank holds throughout the step.

    Attributes:
        weights: Weights as the forward pass reads them; of sharded ones, those that are gathered at a time.
        gradients: Accumulated gradients; of those that are summed up whole, what they add to the peak.
        optimizer: Master weights and Adam's moments.
        communication_buffers: Buffers of gradient buckets.
        logits: Largest transient of a backward pass: logit gradients, or a layer being recomputed.
        framework: CUDA context, communicators, workspaces.
    """

    weights: float
    gradients: float
    optimizer: float
    communication_buffers: float
    logits: float
    framework: float


def summed_bytes(scenario: Scenario, stage: Outline) -> float:
    """Return the bytes of whole gradients of a stage that exist only while they are summed up."""
    return sharded_gradient_bytes(scenario, stage) if sums_gradients_locally(scenario) else 0.0


@remembered
def sharded_gradient_bytes(scenario: Scenario, stage: Outline) -> float:
    """Return the bytes of a stage's gradients, all shards together; zero where they are not sharded."""
    if scenario.parallelism.sharding not in {"zero2", "zero3"}:
        return 0.0
    return stage_parameters(scenario, stage).total * gradient_bytes(scenario)


def _gradients(scenario: Scenario, parts: Sequence[StageParameters]) -> float:
    """Return the bytes of accumulated gradients: whole ones, or shards."""
    each = gradient_bytes(scenario)
    if scenario.parallelism.sharding not in {"zero2", "zero3"}:
        return sum(part.total * each for part in parts)
    return _shards(scenario, parts) * each


@remembered
def held_memory(scenario: Scenario, stages: tuple[Outline, ...]) -> StaticMemory:
    """Return what a rank with such stages holds, its passes left aside."""
    sharding = scenario.parallelism.sharding
    parameters = rank_parameters(scenario, stages)
    held, divided = parameters.total, _shards(scenario, parameters.stages)
    has_master = weight_bytes(scenario) < MASTER_BYTES
    layers = held - parameters.boundary
    low = 0.0 if sharding == "zero3" else layers * (layer_weight_bytes(scenario) - weight_bytes(scenario))
    whole = _gathered_parameters(scenario, stages) if sharding == "zero3" else held
    # Fully sharded weights in fp32 are what the optimizer updates; in a lower format they are cast from its
    # master copy before they are gathered, and no sharded copy of them stays (arXiv:2304.11277, section 4.4).
    kept = divided if sharding == "zero3" and not has_master and whole < held else 0.0
    return StaticMemory(
        weights=(whole + kept) * weight_bytes(scenario) + low,
        gradients=_gradients(scenario, parameters.stages),
        optimizer=held_state_bytes(scenario, held if sharding == "none" else divided),
        communication_buffers=_buffers(scenario, stages),
        logits=0.0,
        framework=scenario.software.framework_bytes,
    )


def _shards(scenario: Scenario, parts: Sequence[StageParameters]) -> float:
    """Return the parameters of one rank's shards of some stages."""
    dense, experts = dense_sharing(scenario).shard.size, expert_sharing(scenario).shard.size
    return sum(part.dense / dense + part.experts / experts for part in parts)


def _gathered_parameters(scenario: Scenario, stages: tuple[Outline, ...]) -> float:
    """Return how many parameters of sharded ones are whole at a time.

    Without resharding after forward all of them are before the first backward pass. With it, these are the
    embedding and the head (FSDP's outermost unit) and the layer that runs with those gathered ahead of it.
    """
    units = [unit_parts(scenario, stage) for stage in stages]
    everything = sum(unit.parameters.total for mine in units for unit in mine)
    if not scenario.parallelism.reshard_after_forward:
        return everything
    layers: list[float] = []
    for stage, mine in zip(stages, units, strict=True):
        last = len(mine) - stage.has_head
        layers += [unit.parameters.total for unit in mine[int(stage.has_embedding) : last]]
    ahead = scenario.parallelism.prefetch if scenario.training.overlap.param_gather else 0
    live = sum(sorted(layers, reverse=True)[: ahead + 1])
    return everything - sum(layers) + live


def _buffers(scenario: Scenario, stages: tuple[Outline, ...]) -> float:
    """Return the bytes of gradients on their way: a bucket, or a layer's as made and as they travel."""
    sharding = scenario.parallelism.sharding
    if sharding == "none" or dense_sharing(scenario).whole.size == 1:
        return 0.0
    if sharding != "zero3":
        return scenario.software.bucket_bytes
    largest = max(unit.parameters.total for stage in stages for unit in unit_parts(scenario, stage))
    made = BYTES_PER_ELEMENT[wide_dtype(scenario.training.precision)]
    return largest * (made + reduced_bytes(scenario))
