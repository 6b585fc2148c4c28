"""Parameters of each stage on one rank, and the bytes that their copies take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.scenario.parameters import LayerParameters, layer_parameters
from simulator.workload.grid import expert_gradient_group, gradient_group
from simulator.workload.shapes import BYTES_PER_ELEMENT, shapes_of

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.stages import Stage

MASTER_BYTES = 4
"""An fp32 master copy of each weight (mixed-precision training, arXiv:1710.03740)."""
ADAM_BYTES = 8
"""Two fp32 moments of each weight (Adam, arXiv:1412.6980)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageParameters:
    """Parameters of one stage on one rank.

    Attributes:
        dense: Those that every data- and context-parallel rank holds.
        experts: Those that only ranks with the same experts hold.
    """

    dense: float
    experts: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.dense + self.experts


def layer_parameters_per_rank(scenario: Scenario, layer: int) -> StageParameters:
    """Count one layer's parameters on one rank."""
    has_experts = scenario.model.is_moe_layer(layer)
    return _divide(scenario, layer_parameters(scenario.model, has_experts=has_experts))


def _divide(scenario: Scenario, layer: LayerParameters) -> StageParameters:
    tp, ep = scenario.parallelism.tp, scenario.parallelism.ep
    dense = (layer.attention + layer.dense) / tp + layer.replicated
    return StageParameters(dense=dense, experts=layer.experts / (tp * ep))


def boundary_parameters(scenario: Scenario, stage: Stage) -> float:
    """Count the parameters of the embedding and of the head on one rank.

    A tied head on another stage than the embedding holds a copy of the table (Megatron-LM).
    """
    model = scenario.model
    table = shapes_of(scenario).vocabulary * model.hidden_size
    positions = model.max_position_embeddings if model.positional == "learned" else 0
    total = 0.0
    if stage.has_embedding:
        total += table + positions * model.hidden_size
    if stage.has_head:
        shares = model.tie_word_embeddings and stage.has_embedding
        total += model.hidden_size * (2 if model.norm == "layernorm" else 1) + (0 if shares else table)
    return total


def stage_parameters(scenario: Scenario, stage: Stage) -> StageParameters:
    """Count one stage's parameters on one rank."""
    layers = [layer_parameters_per_rank(scenario, layer) for layer in stage.layers]
    return StageParameters(
        dense=sum(part.dense for part in layers) + boundary_parameters(scenario, stage),
        experts=sum(part.experts for part in layers),
    )


def weight_bytes(scenario: Scenario) -> float:
    """Return the bytes of one weight as the forward pass reads it."""
    precision = scenario.training.precision
    return 2.0 if precision in {"fp8", "fp4"} else float(BYTES_PER_ELEMENT[precision])


def gradient_bytes(scenario: Scenario) -> float:
    """Return the bytes of one accumulated gradient."""
    return float(BYTES_PER_ELEMENT[scenario.training.grad_dtype])


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticMemory:
    """Bytes that a pipeline rank holds throughout the step.

    Attributes:
        weights: Weights as the forward pass reads them.
        gradients: Accumulated gradients.
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


def static_memory(scenario: Scenario, stages: tuple[Stage, ...]) -> tuple[StaticMemory, ...]:
    """Return what each pipeline rank holds throughout the step (Rajbhandari et al., arXiv:1910.02054)."""
    pp = scenario.parallelism.pp
    parts = [stage_parameters(scenario, stage) for stage in stages]
    return tuple(_rank_memory(scenario, parts[rank::pp], stages[rank::pp]) for rank in range(pp))


def _rank_memory(scenario: Scenario, parts: list[StageParameters], stages: tuple[Stage, ...]) -> StaticMemory:
    sharding = scenario.parallelism.sharding
    dense, experts = sum(part.dense for part in parts), sum(part.experts for part in parts)
    sharers, expert_sharers = (
        gradient_group(scenario.parallelism),
        expert_gradient_group(scenario.parallelism),
    )
    divided = dense / sharers.size + experts / expert_sharers.size
    held = dense + experts
    state = MASTER_BYTES + ADAM_BYTES if weight_bytes(scenario) < MASTER_BYTES else ADAM_BYTES
    return StaticMemory(
        weights=held * weight_bytes(scenario),
        gradients=(divided if sharding in {"zero2", "zero3"} else held) * gradient_bytes(scenario),
        optimizer=(held if sharding == "none" else divided) * state,
        communication_buffers=scenario.software.bucket_bytes
        if sharers.size > 1 and sharding != "none"
        else 0.0,
        logits=max((work.working_bytes for stage in stages for work in stage.works), default=0.0),
        framework=scenario.software.framework_bytes,
    )
