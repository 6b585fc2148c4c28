"""Pipeline stages: which layers each holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from simulator.scenario.parameters import ModelParameters
from simulator.scenario.remembered import remembered
from simulator.workload.layers.kinds import LayerKind
from simulator.workload.layers.layer_work import (
    LayerSettings,
    LayerWork,
    edge_work,
    layer_of_kind,
    layer_settings,
    prediction_works,
)
from simulator.workload.layers.plan import LayerPlan, layer_plan
from simulator.workload.parameters.stage_outline import StageOutline, outlines, ranks_sharing_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.workload.program import Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageKind:
    """What stages with the same work have in common.

    Attributes:
        outline: What decides how many parameters they have.
        layers: Different kinds and plans of layers.
        places: Which of them each layer has.
    """

    outline: StageOutline
    layers: tuple[tuple[LayerKind, LayerPlan], ...]
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pipeline stage.

    Attributes:
        layers: Numbers of its transformer layers.
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


def alike_stages(stages: Sequence[Stage]) -> Ints:
    """Return for each stage the first one with the same works."""
    first: dict[int, int] = {}
    return np.array([first.setdefault(id(stage.works), number) for number, stage in enumerate(stages)])


def stages_of(scenario: Scenario) -> tuple[Stage, ...]:
    """Divide the model into its pipeline stages; layers of one kind share their work."""
    settings = layer_settings(scenario)
    stages: list[Stage] = []
    first = 0
    for count, kind in zip(scenario.parallelism.stage_layers, stage_kinds(scenario), strict=True):
        layers = tuple(range(first, first + count))
        stages.append(Stage(layers=layers, works=stage_works(scenario, kind, settings), kind=kind))
        first += count
    return tuple(stages)


@remembered
def stage_kinds(scenario: Scenario) -> tuple[StageKind, ...]:
    """Return the kind of every stage of a scenario, in model order; one object for all that are alike."""
    kinds: list[StageKind] = []
    first = 0
    parallelism = scenario.parallelism
    stage_outlines = outlines(
        ModelParameters.of(scenario.model),
        parallelism.stage_layers,
        ranks_sharing_tables(parallelism.vocabulary, parallelism.pp),
    )
    for count, outline in zip(parallelism.stage_layers, stage_outlines, strict=True):
        layers = tuple(
            (LayerKind.of(scenario, layer), layer_plan(scenario, layer, layer - first, count))
            for layer in range(first, first + count)
        )
        kinds.append(_one_for_all(outline, layers))
        first += count
    return tuple(kinds)


@lru_cache(maxsize=4096)
def _one_for_all(outline: StageOutline, layers: tuple[tuple[LayerKind, LayerPlan], ...]) -> StageKind:
    different = tuple(dict.fromkeys(layers))
    number = {layer: place for place, layer in enumerate(different)}
    return StageKind(outline=outline, layers=different, places=tuple(map(number.__getitem__, layers)))


@remembered
def stage_works(scenario: Scenario, kind: StageKind, settings: LayerSettings) -> tuple[LayerWork, ...]:
    """Return the work of a stage of one kind in model order; see ``Stage.works``."""
    made = [layer_of_kind(scenario, *each, settings) for each in kind.layers]
    works = [made[place] for place in kind.places]
    if kind.outline.has_embedding:
        works.insert(0, edge_work(scenario, "embedding", settings))
    if kind.outline.has_head:
        head = edge_work(scenario, "head and loss", settings)
        works += [*prediction_works(scenario, settings), head] * kind.outline.predictions + [head]
    return tuple(works)
