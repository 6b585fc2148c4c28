"""Which ways of running layers and steps are possible on which shapes, and which of them change nothing.

A combination whose setting has no effect (sequence parallelism on one tensor-parallel rank) says the same as
the one with the first value of that axis, which stays in its place: each layout is looked at once.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.explore.search.shapes import possible_shapes
from simulator.explore.search.space import LAYER_AXES, STEP_AXES, Shapes, Space, combinations
from simulator.files.rules import facts_of
from simulator.files.rules.degrees import SEQUENCE_PARALLEL
from simulator.files.rules.experts import ETP_IS_TP
from simulator.scenario.sharding import sharding_of
from simulator.workload.grid import Mesh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.explore.search.axes import Values
    from simulator.explore.search.space import Bools, Ints
    from simulator.files import Variations
    from simulator.scenario.parallelism import Axis

IDLE = "a setting has no effect: same as another layout"
_SEQUENCE = "sequence parallelism: tp divides the sequence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strides:
    """Where the ranks of each axis lie under one placement, by shape; see ``workload.grid``.

    Attributes:
        tp: Distance between neighbouring tensor-parallel ranks.
        cp: Between context-parallel ranks.
        dp: Between ranks that hold the same dense weights.
        pp: Between pipeline ranks.
    """

    tp: Ints
    cp: Ints
    dp: Ints
    pp: Ints

    @classmethod
    def of(cls, shapes: Shapes, placement: Sequence[Axis]) -> Strides:
        """Number the ranks of every shape."""
        mesh = Mesh(placement=tuple(placement), tp=shapes.tp, cp=shapes.cp, dp=shapes.dp, pp=shapes.pp)
        return cls(tp=mesh.stride("tp"), cp=mesh.stride("cp"), dp=mesh.replica_stride(), pp=mesh.stride("pp"))

    def key(self, shapes: Shapes, *, has_experts: bool) -> Ints:
        """Return what groups of ranks are made of: equal rows are equal layouts."""
        columns = [
            np.where(shapes.tp > 1, self.tp, 0),
            np.where(shapes.cp > 1, self.cp, 0),
            np.where(shapes.dp * shapes.cp > 1, self.dp, 0),
            np.where(shapes.pp > 1, self.pp, 0),
        ]
        if has_experts:  # their mesh looks at the order of all axes
            columns += [self.tp, self.cp, self.dp, self.pp]
        return np.stack(columns, axis=1)


def space_of(values: Values, variations: Variations) -> Space:
    """Return the combinations of all values that the rules allow."""
    excluded: Counter[str] = Counter()
    shapes = possible_shapes(values, variations, excluded)
    layers, steps = combinations(values, LAYER_AXES), combinations(values, STEP_AXES)
    sequence, idle_layers = _layers(values, variations, shapes, layers)
    idle_steps = _steps(values, variations, shapes, steps)
    excluded[_SEQUENCE] += int((~sequence).sum()) * len(steps)
    allowed = sequence & ~idle_layers
    possible = allowed[:, :, None] & ~idle_steps[:, None, :]
    excluded[IDLE] += int(sequence.sum()) * len(steps) - int(possible.sum())
    return Space(
        values=values,
        shapes=shapes,
        layers=layers,
        steps=steps,
        possible=possible,
        size=math.prod(map(len, values.values())),
        excluded=+excluded,
    )


def divides_sequence(values: Values, layers: Ints) -> Bools:
    """Tell for each way of running layers whether sequences are divided among tensor-parallel ranks."""
    choice = [value is not False for value in values["sequence_parallel"]]
    return np.asarray(choice, dtype=np.bool_)[layers[:, LAYER_AXES.index("sequence_parallel")]]


def switched_on(values: Values, name: str, usual: bool) -> Bools:
    """Return the values of an overlap, ``usual`` standing for those that leave it to the software."""
    return np.asarray([usual if value is None else value for value in values[name]], dtype=np.bool_)


def _layers(values: Values, variations: Variations, shapes: Shapes, layers: Ints) -> tuple[Bools, Bools]:
    """Return by shape and way of running layers whether it is possible, and whether it repeats another."""
    file = variations.file
    column = dict(zip(LAYER_AXES, layers.T, strict=True))
    divides = divides_sequence(values, layers)
    tp = shapes.tp[:, None]
    columns = {  # [shape, layer options]
        "parallelism.tp": tp,
        "parallelism.cp": shapes.cp[:, None],
        "sequence_parallel": (tp > 1) & divides[None, :],
    }
    facts = facts_of(file, variations.model, columns)
    possible = SEQUENCE_PARALLEL.asks(facts) & ETP_IS_TP.asks(facts)
    first = {name: column[name][None, :] == 0 for name in LAYER_AXES}
    idle = (tp == 1) & ~first["sequence_parallel"]
    idle = idle | (((tp == 1) | ~divides[None, :]) & ~first["overlap_tp"])
    if file.training.offload.num_layers is None:
        most = np.asarray([max(counts) for counts in shapes.stage_layers] or [0])[shapes.stages]
        idle = idle | ((most <= 1)[:, None] & ~first["offload_activations"])
    return possible, idle | _repeated_placements(values, variations, shapes, column["placement"])


def _repeated_placements(values: Values, variations: Variations, shapes: Shapes, placement: Ints) -> Bools:
    """Find placements that put every group of ranks where an earlier one puts it."""
    has_experts = variations.model.experts is not None
    keys = [
        Strides.of(shapes, order).key(shapes, has_experts=has_experts)
        for order in values["placement"]
        if isinstance(order, list)
    ]
    repeats = np.zeros((len(shapes), len(keys)), dtype=np.bool_)
    for number, key in enumerate(keys):
        for before in keys[:number]:
            repeats[:, number] |= (key == before).all(axis=1)
    repeated: Bools = repeats[:, placement]
    return repeated


def _steps(values: Values, variations: Variations, shapes: Shapes, steps: Ints) -> Bools:
    """Return by shape and way of running steps whether it repeats another."""
    column = dict(zip(STEP_AXES, steps.T, strict=True))
    first = {name: column[name][None, :] == 0 for name in STEP_AXES}
    ranks = shapes.dp * shapes.cp
    alone = ranks == 1
    if variations.model.experts is not None:
        # With etp below tp, tensor-parallel ranks hold copies of an expert, whose gradients they reduce.
        etp = variations.file.parallelism.etp
        alone &= ranks * shapes.tp == shapes.ep * (shapes.tp if etp is None else etp)
    alone = alone[:, None]
    sharding = [sharding_of(str(value)) for value in values["sharding"]]
    shards = np.asarray([name != "none" for name in sharding])[column["sharding"]][None, :]
    # Sharded weights are gathered ahead, and then held, even where one rank gathers them from itself.
    gathers = np.asarray([name == "zero3" for name in sharding])[column["sharding"]][None, :]
    idle = alone & ~first["overlap_grad_reduce"]
    idle = idle | (((alone & ~gathers) | ~shards) & ~first["overlap_param_gather"])
    idle = idle | ((shapes.pp == 1)[:, None] & ~first["overlap_p2p"])
    return np.asarray(idle, dtype=np.bool_)
