"""Parameters of each stage on one rank, for all shapes of a family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.workload.parameters.counts import boundary_parameters, stage_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.explore.search.layer_classes import Floats
    from simulator.explore.search.space import Ints
    from simulator.workload.parameters.counts import LocalParameters
    from simulator.workload.parameters.stage_outline import StageOutline


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
    def of(cls, local: LocalParameters, stages: Sequence[StageOutline]) -> Parameters:
        """Count the parameters of each stage, given those of each part of the model on one rank."""
        counted = [stage_parameters(local, stage) for stage in stages]
        size = {key: parameters.total for key, parameters in local.layers.items()}
        return cls(
            dense=np.array([stage.dense for stage in counted]),
            experts=np.array([stage.experts for stage in counted]),
            boundary=np.array([boundary_parameters(local, stage) for stage in stages]),
            layer=np.array([max((size[key] for key in stage.layers), default=0.0) for stage in stages]),
        )

    @classmethod
    def stacked(cls, found: list[Parameters], rows: Ints) -> Parameters:
        """Return the parameters of many shapes, given those of distinct ones and which each shape has."""
        names = ("dense", "experts", "boundary", "layer")
        return cls(*(np.stack([getattr(each, name) for each in found])[rows] for name in names))

    @property
    def total(self) -> Floats:
        """All of them."""
        return self.dense + self.experts
