"""The space of a search: every combination of the free settings, and which of them are possible.

A combination is a shape (``SHAPE_AXES``: degrees, micro-batch, schedule: what the rules of files speak of),
the way a layer runs (``LAYER_AXES``: placement, sequence parallelism, recomputation, ...) and the way a step
runs (``STEP_AXES``: sharding and overlaps). Millions of combinations are so a few thousand rows times two
short lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections import Counter

    from numpy.typing import NDArray

    from simulator.explore.search.axes import Values

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

SHAPE_AXES = ("tp", "pp", "cp", "ep", "vpp", "layers", "schedule", "mbs")
LAYER_AXES = ("placement", "sequence_parallel", "recompute", "overlap_tp", "offload_activations")
STEP_AXES = (
    "sharding",
    "overlap_grad_reduce",
    "overlap_param_gather",
    "overlap_p2p",
    "offload_optimizer",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """Possible shapes as columns.

    Attributes:
        tp: Tensor-parallel ranks of each shape; likewise ``pp``, ``cp``, ``ep``, ``vpp``, ``dp``.
        mbs: Micro-batch size.
        microbatches: Micro-batches of a step.
        stages: Index into ``stage_layers``.
        schedule: Index into ``schedules``.
        choice: Index of the value of each of ``SHAPE_AXES``, row by row.
        stage_layers: Layers of each stage.
        schedules: Names of schedules.
    """

    tp: Ints
    pp: Ints
    cp: Ints
    ep: Ints
    vpp: Ints
    dp: Ints
    mbs: Ints
    microbatches: Ints
    stages: Ints
    schedule: Ints
    choice: Ints
    stage_layers: tuple[tuple[int, ...], ...]
    schedules: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.tp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """All combinations of one search, and which of them are possible.

    Attributes:
        values: Values of each axis.
        shapes: Possible shapes.
        layers: Index of the value of each of ``LAYER_AXES``, row by row.
        steps: Index of the value of each of ``STEP_AXES``, row by row.
        possible: By shape, row of ``layers`` and row of ``steps``, whether the rules allow it.
        size: Number of all combinations.
        excluded: How many each rule excludes.
    """

    values: Values
    shapes: Shapes
    layers: Ints
    steps: Ints
    possible: Bools
    size: int
    excluded: Counter[str]

    def settings(self, shape: int, layer: int, step: int) -> dict[str, object]:
        """Return the settings of one combination by the axes' short names."""
        return {
            name: self.values[name][index]
            for axes, row in (
                (SHAPE_AXES, self.shapes.choice[shape]),
                (LAYER_AXES, self.layers[layer]),
                (STEP_AXES, self.steps[step]),
            )
            for name, index in zip(axes, row.tolist(), strict=True)
        }


def combinations(values: Values, axes: tuple[str, ...]) -> Ints:
    """Return the index of the value of each axis in all combinations, the last axis fastest."""
    grid = np.indices([len(values[name]) for name in axes]).reshape(len(axes), -1)
    rows: Ints = grid.T.astype(np.int64)
    return rows
