"""Pipeline stages: which layers each holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.scenario.parameters import ModelParameters
from simulator.workload.layers.kinds import LayerKind, layer_kinds
from simulator.workload.layers.layer_work import (
    LayerWork,
    Predictions,
    closing_works,
    embedding_work,
    layer_work,
    predictions_of,
)
from simulator.workload.parameters.stage_outline import StageOutline, outlines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.scenario import Model
    from simulator.workload.layers.plan import LayerPlan, PlanOptions
    from simulator.workload.layers.settings import LayerSettings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageKind:
    """What stages with the same work have in common.

    Attributes:
        outline: What decides how many parameters they have.
        layers: Different kinds and plans of layers.
        indices: Which of them each layer has, by position in the stage.
        predictions: Its multi-token-prediction modules, if it has any.
    """

    outline: StageOutline
    layers: tuple[tuple[LayerKind, LayerPlan], ...]
    indices: tuple[int, ...]
    predictions: Predictions | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageKinds:
    """Which stages of a scenario are equal; one object for equal answers.

    Attributes:
        kinds: The different kinds of stages.
        index: [stage] Index of its kind.
        own_outlines: Outline of each kind.
        predictions: The multi-token-prediction modules that the last stage has, if any.
    """

    kinds: tuple[StageKind, ...]
    index: tuple[int, ...]
    own_outlines: tuple[StageOutline, ...]
    predictions: Predictions | None

    def outlines(self, kinds: Iterable[int]) -> tuple[StageOutline, ...]:
        """Return the outlines of stages of these kinds."""
        return tuple([self.own_outlines[kind] for kind in kinds])


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pipeline stage.

    Attributes:
        layers: Indices of its transformer layers.
        works: Its work in model order: embedding, layers, prediction modules each with its head, head.
        kind: What it has in common with other stages.
    """

    layers: tuple[int, ...]
    works: tuple[LayerWork, ...]
    kind: StageKind

    @property
    def outline(self) -> StageOutline:
        """What decides how many parameters it has."""
        return self.kind.outline

    @property
    def has_embedding(self) -> bool:
        """Whether it holds the token embedding."""
        return self.outline.has_embedding

    @property
    def has_head(self) -> bool:
        """Whether it holds the final norm, the vocabulary head and the loss."""
        return self.outline.has_head

    @property
    def saved_bytes(self) -> float:
        """Activation bytes of one micro-batch."""
        return sum(work.saved_bytes for work in self.works)


def stages_of(stages: StageKinds, settings: LayerSettings) -> tuple[Stage, ...]:
    """Return the pipeline stages in model order, each with its work; layers of one kind share theirs."""
    found: list[Stage] = []
    first = 0
    for index in stages.index:
        kind = stages.kinds[index]
        end = first + len(kind.indices)
        found.append(Stage(layers=tuple(range(first, end)), works=stage_works(kind, settings), kind=kind))
        first = end
    return tuple(found)


@lru_cache(maxsize=4096)
def stage_kinds(
    model: Model,
    stage_layers: tuple[int, ...],
    sharing_tables: int,
    options: PlanOptions,
    mean_document: float | None,
) -> StageKinds:
    """Return which stages of a model are equal.

    Args:
        model: The model.
        stage_layers: Layers of each stage.
        sharing_tables: Pipeline ranks that share the token table and the head; see ``ranks_sharing_tables``.
        options: How its layers are treated.
        mean_document: Mean tokens of a document, where attention never crosses documents, or None.
    """
    layers = layer_kinds(model, mean_document)
    predictions = predictions_of(model, mean_document, options)
    kinds: list[StageKind] = []
    first = 0
    stage_outlines = outlines(ModelParameters.of(model), stage_layers, sharing_tables)
    for count, outline in zip(stage_layers, stage_outlines, strict=True):
        held = tuple(
            (layers[first + position], options.plan(first + position, position, count))
            for position in range(count)
        )
        kinds.append(_one_for_all(outline, held, predictions if outline.predictions else None))
        first += count
    distinct = tuple(dict.fromkeys(kinds))
    return _interned(distinct, tuple(distinct.index(kind) for kind in kinds), predictions)


@lru_cache(maxsize=4096)
def _interned(
    kinds: tuple[StageKind, ...], index: tuple[int, ...], predictions: Predictions | None
) -> StageKinds:
    outlines = tuple(kind.outline for kind in kinds)
    return StageKinds(kinds=kinds, index=index, own_outlines=outlines, predictions=predictions)


@lru_cache(maxsize=4096)
def _one_for_all(
    outline: StageOutline, layers: tuple[tuple[LayerKind, LayerPlan], ...], predictions: Predictions | None
) -> StageKind:
    distinct = tuple(dict.fromkeys(layers))
    index = {layer: number for number, layer in enumerate(distinct)}
    return StageKind(
        outline=outline,
        layers=distinct,
        indices=tuple(map(index.__getitem__, layers)),
        predictions=predictions,
    )


@lru_cache(maxsize=4096)
def stage_works(kind: StageKind, settings: LayerSettings) -> tuple[LayerWork, ...]:
    """Return the work of a stage of one kind in model order; see ``Stage.works``."""
    distinct = [layer_work(*layer, settings) for layer in kind.layers]
    works = [distinct[index] for index in kind.indices]
    if kind.outline.has_embedding:
        works.insert(0, embedding_work(settings))
    if kind.outline.has_head:
        works += closing_works(settings, kind.predictions)
    return tuple(works)
