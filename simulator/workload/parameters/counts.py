"""Parameters of each stage on one rank, and the bytes that their copies take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.scenario.parameters import (
    LayerParameters,
    layer_parameters,
    prediction_layers,
    prediction_projection,
)
from simulator.scenario.remembered import remembered
from simulator.workload.layers.local_sizes import BYTES_PER_ELEMENT, vocabulary_rows, wide_dtype

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.scenario.model import Block
    from simulator.workload.parameters.stage_outline import Outline


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
    return parameters_of_kind(scenario, scenario.model.is_moe_layer(layer), scenario.model.block(layer))


@remembered
def parameters_of_kind(scenario: Scenario, has_experts: bool, block: Block) -> StageParameters:
    """Count the parameters of a layer on one rank, given what it is."""
    return _divide(scenario, layer_parameters(scenario.model, has_experts=has_experts, block=block))


@remembered
def prediction_parameters(scenario: Scenario, number: int) -> StageParameters:
    """Count what the prediction module ``number`` adds on one rank; modules may repeat the first one."""
    model = scenario.model
    if number and model.mtp_repeats_layer:
        return StageParameters(dense=0.0, experts=0.0)
    parts = [
        _divide(scenario, layer_parameters(model, has_experts=has_experts, block=block))
        for block, has_experts in prediction_layers(model)
    ]
    projection = prediction_projection(model) / scenario.parallelism.tp
    return StageParameters(
        dense=sum(part.dense for part in parts) + projection, experts=sum(part.experts for part in parts)
    )


def _divide(scenario: Scenario, layer: LayerParameters) -> StageParameters:
    degrees = scenario.parallelism
    dense = (layer.attention + layer.dense) / degrees.tp + layer.replicated
    return StageParameters(dense=dense, experts=layer.experts / (degrees.expert_tp * degrees.ep))


@remembered
def boundary_parameters(scenario: Scenario, stage: Outline) -> float:
    """Count the parameters of the embedding and of the head on one rank.

    A tied head on another stage than the embedding holds a copy of the table (Megatron-LM), and so do
    prediction modules, which embed the tokens that they are told. Where all pipeline ranks share the tables,
    each holds its part of both.
    """
    model = scenario.model
    whole = vocabulary_rows(model.vocab_size, scenario.parallelism.tp) * model.hidden_size
    table = whole if scenario.parallelism.vocabulary == "none" else 0.0
    positions = model.max_position_embeddings if model.positional == "learned" else 0
    total = 0.0
    if stage.has_embedding:
        total += table + positions * model.hidden_size
    if stage.has_head:
        shares = model.tie_word_embeddings and stage.has_embedding
        total += model.hidden_size * (2 if model.norm == "layernorm" else 1) + (0 if shares else table)
    if stage.predictions and not stage.has_embedding and not model.tie_word_embeddings:
        total += table
    return total + stage.table_share * whole * (1 if model.tie_word_embeddings else 2)


@remembered
def stage_parameters(scenario: Scenario, stage: Outline) -> StageParameters:
    """Count one stage's parameters on one rank."""
    layers = [parameters_of_kind(scenario, has_experts, block) for has_experts, block in stage.layers]
    layers += [prediction_parameters(scenario, number) for number in range(stage.predictions)]
    return StageParameters(
        dense=sum(part.dense for part in layers) + boundary_parameters(scenario, stage),
        experts=sum(part.experts for part in layers),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankParameters:
    """Parameters that one rank holds.

    Attributes:
        stages: Those of each of its stages.
        total: All of them.
        dense: Those of all stages that are no experts'.
        experts: Those of experts.
        boundary: Those of the embedding and the head.
    """

    stages: tuple[StageParameters, ...]
    total: float
    dense: float
    experts: float
    boundary: float


@remembered
def rank_parameters(scenario: Scenario, outlines: tuple[Outline, ...]) -> RankParameters:
    """Count the parameters of a rank with such stages."""
    stages = tuple(stage_parameters(scenario, outline) for outline in outlines)
    return RankParameters(
        stages=stages,
        total=sum(stage.total for stage in stages),
        dense=sum(stage.dense for stage in stages),
        experts=sum(stage.experts for stage in stages),
        boundary=sum(boundary_parameters(scenario, outline) for outline in outlines),
    )


def weight_bytes(scenario: Scenario) -> float:
    """Return the bytes of one weight as the forward pass reads it and as data-parallel ranks gather it."""
    training = scenario.training
    if training.param_dtype is not None:
        return float(BYTES_PER_ELEMENT[training.param_dtype])
    return float(BYTES_PER_ELEMENT[wide_dtype(training.precision)])


def gradient_bytes(scenario: Scenario) -> float:
    """Return the bytes of one accumulated gradient."""
    return float(BYTES_PER_ELEMENT[scenario.training.grad_dtype])


def reduced_bytes(scenario: Scenario) -> float:
    """Return the bytes of one gradient as it travels."""
    return float(BYTES_PER_ELEMENT[scenario.training.reduce_dtype or scenario.training.grad_dtype])


def keeps_weights_over_step(scenario: Scenario) -> bool:
    """Tell whether weights sharded by zero3 are gathered once, for all micro-batches of a step.

    FSDP frees weights that it keeps over the forward pass after a backward pass that reduces gradients. A
    pipeline runs passes of other micro-batches in between, and PyTorch's stages then switch that off
    (``torch.distributed.pipelining.stage``, ``set_reshard_after_backward``).
    """
    degrees = scenario.parallelism
    return not degrees.reshard_after_forward and (degrees.pp > 1 or not degrees.reduce_every_microbatch)


def sums_gradients_locally(scenario: Scenario) -> bool:
    """Tell whether gradients of several micro-batches are summed on each rank before they are reduced."""
    return scenario.num_microbatches > 1 and not scenario.parallelism.reduce_every_microbatch
