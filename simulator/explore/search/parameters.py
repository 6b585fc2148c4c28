"""Parameters of each stage on one rank, for all shapes of a family."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.workload.parameters.counts import (
    boundary_parameters,
    layer_parameters_per_rank,
    prediction_parameters,
)
from simulator.workload.parameters.stage_outline import Outline

if TYPE_CHECKING:
    from simulator.explore.search.classes import Floats
    from simulator.explore.search.space import Ints
    from simulator.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters by shape and stage.

    Attributes:
        dense: Those that every data- and context-parallel rank holds.
        experts: Those that only ranks with the same experts hold.
        boundary: Of the dense ones, those of the embedding and of the head.
        layer: Those of the stage's largest layer.
    """

    dense: Floats
    experts: Floats
    boundary: Floats
    layer: Floats

    @classmethod
    def of(cls, example: Scenario, stage_layers: tuple[int, ...], layers: Floats) -> Parameters:
        """Count the parameters of one shape.

        Args:
            example: A layout of that shape.
            stage_layers: Layers of each stage.
            layers: Dense parameters and those of experts, by layer; see ``layer_parameters``.
        """
        bounds = np.cumsum([0, *stage_layers])
        upto = np.concatenate([np.zeros((1, 2)), np.cumsum(layers, axis=0)])
        dense, experts = (upto[bounds[1:]] - upto[bounds[:-1]]).T
        boundary = np.asarray([_boundary(example, number, stage_layers) for number in range(len(bounds) - 1)])
        modules = example.model.num_nextn_predict_layers
        for number in range(modules):
            counted = prediction_parameters(example, number)
            dense[-1] += counted.dense
            experts[-1] += counted.experts
        total = layers.sum(axis=1)
        largest = [total[first:last].max(initial=0.0) for first, last in itertools.pairwise(bounds)]
        return cls(dense + boundary, experts, boundary, np.asarray(largest))

    @classmethod
    def stacked(cls, found: list[Parameters], rows: Ints) -> Parameters:
        """Return the parameters of many shapes, given those of distinct ones and which each shape has."""
        names = ("dense", "experts", "boundary", "layer")
        return cls(*(np.stack([getattr(each, name) for each in found])[rows] for name in names))

    @property
    def total(self) -> Floats:
        """All of them."""
        return self.dense + self.experts


def layer_parameters(example: Scenario) -> Floats:
    """Return the dense parameters and those of experts on one rank, by layer."""
    counted = [layer_parameters_per_rank(example, layer) for layer in range(example.model.num_hidden_layers)]
    return np.asarray([(each.dense, each.experts) for each in counted])


def _boundary(example: Scenario, number: int, stage_layers: tuple[int, ...]) -> float:
    """Count the parameters of the embedding and of the head on one stage."""
    is_last = number == len(stage_layers) - 1
    shares = example.parallelism.vocabulary != "none" and number < example.parallelism.pp
    if number and not is_last and not shares:
        return 0.0
    stage = Outline(
        layers=(),
        has_embedding=number == 0,
        has_head=is_last,
        predictions=example.model.num_nextn_predict_layers if is_last else 0,
        table_share=1 / example.parallelism.pp if shares else 0.0,
    )
    return boundary_parameters(example, stage)
