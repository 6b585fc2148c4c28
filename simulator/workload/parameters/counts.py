"""Parameters of each stage on one rank."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.scenario.parameters import ModelParameters
from simulator.workload.layers.local_sizes import vocabulary_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.scenario import Model, Parallelism
    from simulator.scenario.parameters import LayerKey, LayerParameters
    from simulator.workload.parameters.stage_outline import StageOutline


@dataclass(frozen=True, slots=True, kw_only=True)
class StageParameters:
    """Parameters of one stage, or of a part of it, on one rank.

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


NONE = StageParameters(dense=0.0, experts=0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LocalParameters:
    """Parameters on one rank of each part that a stage may hold; one object for equal degrees.

    Attributes:
        layers: Of a layer, by what it is.
        prediction: Of the first multi-token-prediction module.
        further_prediction: Of each further one, which may repeat the first.
        table: Of the token table, and of the head's, padded.
        positions: Of the position table.
        norm: Of the norm before the head.
        tied: Whether the head shares the token table.
        has_tables: Whether the stages with embedding and head hold the tables, which otherwise all pipeline
            ranks share.
    """

    layers: Mapping[LayerKey, StageParameters]
    prediction: StageParameters
    further_prediction: StageParameters
    table: int
    positions: int
    norm: int
    tied: bool
    has_tables: bool

    @staticmethod
    def of(model: Model, degrees: Parallelism) -> LocalParameters:
        """Count the parameters of a model on one rank."""
        return _local_parameters(
            ModelParameters.of(model),
            degrees.tp,
            degrees.ep,
            degrees.expert_tp,
            vocabulary_rows(model.vocab_size, degrees.tp),
            degrees.vocabulary == "none",
        )

    def of_prediction(self, number: int) -> StageParameters:
        """Return the parameters that prediction module ``number`` adds."""
        return self.further_prediction if number else self.prediction


@lru_cache(maxsize=4096)
def _local_parameters(
    model: ModelParameters, tp: int, ep: int, etp: int, rows: int, has_tables: bool
) -> LocalParameters:
    """Divide a model's parameters among tensor-parallel ranks and those that share experts."""

    def divided(layer: LayerParameters) -> StageParameters:
        dense = (layer.attention + layer.dense) / tp + layer.replicated
        return StageParameters(dense=dense, experts=layer.experts / (etp * ep))

    layers = {key: divided(layer) for key, layer in model.counts.items()}
    parts = [layers[key] for key in model.prediction]
    prediction = StageParameters(
        dense=sum(part.dense for part in parts) + model.projection / tp,
        experts=sum(part.experts for part in parts),
    )
    return LocalParameters(
        layers=layers,
        prediction=prediction,
        further_prediction=NONE if model.modules_repeat else prediction,
        table=rows * model.hidden_size,
        positions=model.positions * model.hidden_size,
        norm=model.norm,
        tied=model.tied,
        has_tables=has_tables,
    )


@lru_cache(maxsize=16384)
def boundary_parameters(local: LocalParameters, stage: StageOutline) -> float:
    """Count the parameters of the embedding and of the head on one rank.

    A tied head on another stage than the embedding holds a copy of the table (Megatron-LM), and so do
    prediction modules, which embed the tokens that they are told. Where all pipeline ranks share the tables,
    each holds its part of both.
    """
    table = local.table if local.has_tables else 0.0
    total = 0.0
    if stage.has_embedding:
        total += table + local.positions
    if stage.has_head:
        shares = local.tied and stage.has_embedding
        total += local.norm + (0 if shares else table)
    if stage.predictions and not stage.has_embedding and not local.tied:
        total += table
    return total + stage.table_share * local.table * (1 if local.tied else 2)


@lru_cache(maxsize=16384)
def stage_parameters(local: LocalParameters, stage: StageOutline) -> StageParameters:
    """Count one stage's parameters on one rank."""
    parts = [local.layers[key] for key in stage.layers]
    parts += [local.of_prediction(number) for number in range(stage.predictions)]
    return StageParameters(
        dense=sum(part.dense for part in parts) + boundary_parameters(local, stage),
        experts=sum(part.experts for part in parts),
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


@lru_cache(maxsize=16384)
def rank_parameters(local: LocalParameters, outlines: tuple[StageOutline, ...]) -> RankParameters:
    """Count the parameters of a rank with such stages."""
    stages = tuple(stage_parameters(local, outline) for outline in outlines)
    return RankParameters(
        stages=stages,
        total=sum(stage.total for stage in stages),
        dense=sum(stage.dense for stage in stages),
        experts=sum(stage.experts for stage in stages),
        boundary=sum(boundary_parameters(local, outline) for outline in outlines),
    )
