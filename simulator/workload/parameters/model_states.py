"""What a pipeline rank holds besides activations: weights, gradients, optimizer state and buffers.

Rajbhandari et al. (ZeRO), arXiv:1910.02054, section 5; FSDP, arXiv:2304.11277, sections 3.2 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, overload

from simulator.workload.parameters.buckets import BucketPolicy, BucketSpan, bucket_spans, unit_spans
from simulator.workload.parameters.bytes import ParameterBytes
from simulator.workload.parameters.counts import LocalParameters, rank_parameters, stage_parameters
from simulator.workload.parameters.optimizer_offload import StateOffload, held_state_bytes
from simulator.workload.parameters.sharding import StateSharding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.workload.layers.low_precision import Quantisation
    from simulator.workload.parameters.counts import StageParameters
    from simulator.workload.parameters.sharding import X
    from simulator.workload.parameters.stage_outline import StageOutline
    from simulator.workload.program import Bools, Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelStates:
    """How a scenario keeps weights, gradients and optimizer state; one object for equal ones.

    Attributes:
        local: Parameters of each part of the model on one rank.
        sizes: Bytes of one parameter in each of its copies.
        sharding: What data-parallel ranks share, and who shares it.
        buckets: How gradients are reduced and weights gathered.
        offload: Where optimizer state lives.
        reshards: Whether fully sharded weights are freed after a forward pass.
        ahead: Units whose weights fully sharded ones gather ahead of the one that runs.
        reduction_bytes: Traffic around the reduction of gradients per parameter; 0 without replicas.
        framework_bytes: What the framework, the CUDA context and communicators hold.
    """

    local: LocalParameters
    sizes: ParameterBytes
    sharding: StateSharding
    buckets: BucketPolicy
    offload: StateOffload
    reshards: bool
    ahead: int
    reduction_bytes: float
    framework_bytes: float

    @staticmethod
    def of(scenario: Scenario, quantised: Quantisation | None) -> ModelStates:
        """Return how a scenario keeps its model's states, given how its layers are quantised."""
        parallelism, training, software = scenario.parallelism, scenario.training, scenario.software
        sharded = parallelism.sharding == "zero3"
        return _model_states(
            local=LocalParameters.of(scenario.model, parallelism),
            sizes=ParameterBytes.of(training, software, quantised),
            sharding=StateSharding.of(parallelism),
            buckets=BucketPolicy.of(software, scenario.model),
            offload=StateOffload.of(training.offload, software.bucket_bytes),
            reshards=sharded and parallelism.reshard_after_forward,
            ahead=parallelism.prefetch if sharded and training.overlap.param_gather else 0,
            reduction_bytes=software.reduction_bytes_per_parameter if parallelism.dp > 1 else 0.0,
            framework_bytes=software.framework_bytes,
        )

    def bucket_spans(self, stage: StageOutline) -> tuple[BucketSpan, ...]:
        """Divide a stage into what gathers its weights, or reduces its gradients, in one message."""
        if self.sharding.method == "zero3":
            return unit_spans(self.local, stage)
        return bucket_spans(self.local, stage, self.sizes.gradient, self.buckets.bucket_bytes)


_model_states = lru_cache(maxsize=4096)(ModelStates)


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


@overload
def sums_gradients_locally(num_microbatches: int, *, reduces_every: bool) -> bool: ...
@overload
def sums_gradients_locally(num_microbatches: Floats, *, reduces_every: bool) -> Bools: ...
def sums_gradients_locally(num_microbatches: int | Floats, *, reduces_every: bool) -> bool | Bools:
    """Tell whether gradients of several micro-batches are summed on each rank before they are reduced."""
    return (num_microbatches > 1) & (not reduces_every)


@lru_cache(maxsize=16384)
def sharded_gradient_bytes(
    local: LocalParameters, sharding: StateSharding, gradient_bytes: float, stage: StageOutline
) -> float:
    """Return the bytes of a stage's gradients, all shards together; zero where they are not sharded."""
    if not sharding.shards_gradients:
        return 0.0
    return stage_parameters(local, stage).total * gradient_bytes


@lru_cache(maxsize=16384)
def held_memory(states: ModelStates, stages: tuple[StageOutline, ...]) -> StaticMemory:
    """Return what a rank with such stages holds, its passes left aside."""
    sizes, sharding = states.sizes, states.sharding
    parameters = rank_parameters(states.local, stages)
    held, divided = parameters.total, _shards(sharding, parameters.stages)
    if sharding.method == "zero3":
        weights = _sharded_weights_bytes(states, stages, held, divided)
    else:
        weights = whole_weights_bytes(held, parameters.boundary, sizes)
    return StaticMemory(
        weights=weights,
        gradients=_gradients(sharding, sizes.gradient, parameters.stages),
        optimizer=float(
            held_state_bytes(held if sharding.method == "none" else divided, sizes, states.offload)
        ),
        communication_buffers=_buffers(states, stages),
        logits=0.0,
        framework=states.framework_bytes,
    )


def whole_weights_bytes(total: X, boundary: X, sizes: ParameterBytes) -> X:
    """Return the bytes of weights that every rank holds whole.

    Args:
        total: Parameters of a rank.
        boundary: Those of the embedding and of the head among them, which are never quantised.
        sizes: Bytes of one parameter.
    """
    return total * sizes.weight + (total - boundary) * (sizes.layer_weight - sizes.weight)


def _sharded_weights_bytes(
    states: ModelStates, stages: tuple[StageOutline, ...], held: float, divided: float
) -> float:
    """Return the bytes of fully sharded weights: those that are whole at a time, and the shards.

    Sharded weights in fp32 are what the optimizer updates; in a lower format they are cast from its master
    copy before they are gathered, and no sharded copy of them stays (arXiv:2304.11277, section 4.4).
    """
    whole = _gathered_parameters(states, stages)
    kept = divided if not states.sizes.has_master and whole < held else 0.0
    return (whole + kept) * states.sizes.weight


def _gradients(sharding: StateSharding, gradient_bytes: float, parts: Sequence[StageParameters]) -> float:
    """Return the bytes of accumulated gradients: whole ones, or shards."""
    if not sharding.shards_gradients:
        return sum(part.total * gradient_bytes for part in parts)
    return _shards(sharding, parts) * gradient_bytes


def _shards(sharding: StateSharding, parts: Sequence[StageParameters]) -> float:
    """Return the parameters of one rank's shards of some stages."""
    return sum(sharding.shard(part.dense, part.experts) for part in parts)


def _gathered_parameters(states: ModelStates, stages: tuple[StageOutline, ...]) -> float:
    """Return how many parameters of sharded ones are whole at a time.

    Without resharding after forward all of them are before the first backward pass. With it, these are the
    embedding and the head (FSDP's outermost unit) and the layer that runs with those gathered ahead of it.
    """
    units = [unit_spans(states.local, stage) for stage in stages]
    everything = sum(unit.parameters.total for of_stage in units for unit in of_stage)
    if not states.reshards:
        return everything
    layers: list[float] = []
    for stage, of_stage in zip(stages, units, strict=True):
        last = len(of_stage) - stage.has_head
        layers += [unit.parameters.total for unit in of_stage[int(stage.has_embedding) : last]]
    live = sum(sorted(layers, reverse=True)[: states.ahead + 1])
    return everything - sum(layers) + live


def _buffers(states: ModelStates, stages: tuple[StageOutline, ...]) -> float:
    """Return the bytes of gradients on their way."""
    sharding = states.sharding
    if sharding.dense.whole.size == 1:
        return 0.0
    largest = 0.0
    if sharding.method == "zero3":
        largest = max(unit.parameters.total for stage in stages for unit in unit_spans(states.local, stage))
    return buffer_bytes(sharding.method, largest, states.sizes, states.buckets.bucket_bytes)


def buffer_bytes(method: str, largest: X, sizes: ParameterBytes, bucket_bytes: float) -> X | float:
    """Return the bytes of gradients on their way: a bucket, or those of a unit as made and as they travel.

    Args:
        method: What the ranks share.
        largest: Parameters of the largest unit of a stage; only read for fully sharded ones.
        sizes: Bytes of one parameter.
        bucket_bytes: Bytes of gradients that fill a bucket.
    """
    if method == "zero3":
        return largest * (sizes.made + sizes.reduced)
    return 0.0 if method == "none" else bucket_bytes
