"""What the layers of a layout take and hold: worked out once for all layouts whose layers are alike.

Shapes and ways of running layers fall into classes with the same layers: the same tp, cp, ep and micro-batch,
laid out the same way. A class is built and timed as a simulation would, each kind of layer once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from simulator.durations.layers import block_seconds, kernel_seconds
from simulator.explore.search.rules import Strides
from simulator.explore.search.space import LAYER_AXES, Space
from simulator.schedules import SCHEDULES
from simulator.workload.layers.kinds import LayerKind
from simulator.workload.layers.layer_work import LayerWork, closing_works, embedding_work, layer_work
from simulator.workload.layers.plan import LayerPlan
from simulator.workload.pipeline import pairs_passes

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from simulator.costs.system import System
    from simulator.explore.search.space import Ints
    from simulator.files import Variations
    from simulator.workload.step.settings import StepSettings
    from simulator.workload.step.stages import StageKinds

    Floats = NDArray[np.float64]

LayerKey = tuple[LayerKind, LayerPlan]


@dataclass(slots=True)
class LayerClass:
    """Layers that are laid out alike; each kind is built and timed when it is first asked for.

    Attributes:
        settings: What the works of a layout of the class are made of.
        paired: Whether its passes run in pairs that hide each other's communication.
        works: Work of each kind of layer.
        ends: Work of the embedding, and what follows the last layer.
        seconds: Seconds of a work's forward pass, its backward pass or input gradients, and its weight
            gradients, by the work's identity: of the kernels alone, and in all.
    """

    settings: StepSettings
    paired: bool
    works: dict[LayerKey, LayerWork] = field(default_factory=dict)
    seconds: dict[tuple[int, bool], tuple[float, float, float]] = field(default_factory=dict)
    _ends: tuple[LayerWork, tuple[LayerWork, ...]] | None = None

    def works_of(self, profile: LayerMix) -> list[LayerWork]:
        """Return the work of each kind of layer of a profile."""
        for kind, plan in profile.kinds:
            if (kind, plan) not in self.works:
                self.works[kind, plan] = layer_work(kind, plan, self.settings.layers)
        return [self.works[key] for key in profile.kinds]

    @property
    def ends(self) -> tuple[LayerWork, tuple[LayerWork, ...]]:
        """Work of the embedding, and what follows the last layer."""
        if self._ends is None:
            layers, predictions = self.settings.layers, self.settings.stages.predictions
            self._ends = embedding_work(layers), closing_works(layers, predictions)
        return self._ends

    def bytes_of(self, profile: LayerMix) -> Floats:
        """Return the bytes that are kept, and those taken on top, by kind of layer and end."""
        embedding, after = self.ends
        works = (*self.works_of(profile), embedding)
        saved = [*(work.saved_bytes for work in works), sum(work.saved_bytes for work in after)]
        taken = [*(work.working_bytes for work in works), max(work.working_bytes for work in after)]
        return np.asarray([saved, taken])

    def times_of(self, profile: LayerMix, system: System, *, alone: bool) -> Floats:
        """Return the seconds of passes, as ``times`` does, by pass, kind of layer and end."""
        embedding, after = self.ends
        rows = [self.times(work, system, alone=alone) for work in (*self.works_of(profile), embedding)]
        last = np.sum([self.times(work, system, alone=alone) for work in after], axis=0)
        return np.asarray([*rows, last]).T

    def times(self, work: LayerWork, system: System, *, alone: bool) -> tuple[float, float, float]:
        """Return the seconds of a work's passes, of which an actual layout takes no fewer.

        Args:
            work: One of the class.
            system: The hardware and the software.
            alone: Count kernels only, which is quick; otherwise run the layer as a simulation does. Passes
                that run in pairs are always counted so: either hides the other's communication.
        """
        key = (id(work), alone or self.paired)
        if key not in self.seconds:
            split = work.halves
            blocks = (
                (work.forward, work.backward, None)
                if split is None
                else (work.forward, split.input, split.weight)
            )
            seconds = kernel_seconds if key[1] else block_seconds
            first, second, third = (
                seconds(block, system) if block is not None and block.program.num_ops else 0.0
                for block in blocks
            )
            self.seconds[key] = (first, second, third)
        return self.seconds[key]


@dataclass(frozen=True, slots=True)
class LayerMix:
    """Which kinds of layers each stage holds.

    Attributes:
        number: The same for profiles of the same kinds.
        kinds: Different kinds and plans of layers.
        counts: By stage and kind, how many layers.
    """

    number: int
    kinds: tuple[LayerKey, ...]
    counts: Floats

    @classmethod
    def of(cls, stages: StageKinds, known: dict[Hashable, int]) -> LayerMix:
        """Count the kinds of layers of each stage.

        Args:
            stages: The stages of a layout.
            known: Numbers of the kinds of profiles before; takes up those of this one.
        """
        held_layers = [
            Counter(kind.layers[index] for index in kind.indices)
            for kind in (stages.kinds[index] for index in stages.index)
        ]
        kinds = tuple(dict.fromkeys(key for held in held_layers for key in held))
        counts = np.asarray([[held[key] for key in kinds] for held in held_layers], dtype=np.float64)
        number = known.setdefault(kinds, len(known))
        return cls(number, kinds, counts.reshape(len(held_layers), len(kinds)))

    def sums(self, each: Floats) -> Floats:
        """Add up a quantity over the works of each stage.

        Args:
            each: By row: the quantity of each kind of layer, of the embedding, and of what follows the last
                layer.
        """
        sums: Floats = each[..., :-2] @ self.counts.T
        sums[..., 0] += each[..., -2]
        sums[..., -1] += each[..., -1]
        return sums

    def largest(self, each: Floats) -> Floats:
        """Return the largest of a quantity over the works of each stage; see ``sums``."""
        has = self.counts > 0
        largest: Floats = np.where(has, each[..., None, :-2], 0.0).max(axis=-1, initial=0.0)
        largest[..., 0] = np.maximum(largest[..., 0], each[..., -2])
        largest[..., -1] = np.maximum(largest[..., -1], each[..., -1])
        return largest


@dataclass(frozen=True, slots=True)
class Classes:
    """Classes of a space.

    Attributes:
        of: Class of each shape and way of running layers.
        example: Shape and way of running layers of one member of each class.
    """

    of: Ints
    example: Ints

    @classmethod
    def find(cls, space: Space, variations: Variations, *, with_topology: bool) -> Classes:
        """Find which layouts have the same layers.

        Args:
            space: The layouts.
            variations: The scenario.
            with_topology: Whether it matters where the ranks lie that a layer talks to, not only its kernels.
        """
        shapes, has_experts = space.shapes, variations.model.experts is not None
        here = np.stack([shapes.tp, shapes.cp, shapes.ep, shapes.mbs, shapes.microbatches == 1], axis=1)
        if has_experts:  # their mesh folds over all ranks
            here = np.concatenate([here, np.stack([shapes.dp, shapes.pp], axis=1)], axis=1)
        if variations.file.parallelism.vocabulary != "none":
            here = np.concatenate([here, shapes.pp[:, None]], axis=1)
        schedules = np.asarray([(splits(name), pairs_passes(name)) for name in shapes.schedules])
        here = np.concatenate([here, schedules.reshape(-1, 2)[shapes.schedule]], axis=1)
        names = ["sequence_parallel", "overlap_tp"]
        if variations.model.num_nextn_predict_layers:  # what follows the last layer is itself a layer
            names += ["recompute", "offload_activations"]
        runs = space.layers[:, [LAYER_AXES.index(name) for name in names]]
        rows = np.concatenate([np.repeat(here, len(runs), axis=0), np.tile(runs, (len(here), 1))], axis=1)
        if with_topology:
            apart = np.stack([_places(space, order, has_experts) for order in space.values["placement"]])
            order = space.layers[:, LAYER_AXES.index("placement")]
            places = apart[order].transpose(1, 0, 2).reshape(len(rows), apart.shape[-1])
            rows = np.concatenate([rows, places], axis=1)
        wanted = space.possible.any(axis=2).reshape(-1)
        of = np.full(len(rows), -1)
        _, first, of[wanted] = _unique_rows(rows[wanted])
        example = np.flatnonzero(wanted)[first]
        return cls(of.reshape(len(here), len(runs)), np.stack(np.divmod(example, len(runs)), axis=1))


def _places(space: Space, placement: object, has_experts: bool) -> Ints:
    """Return, by shape, where the ranks lie that a layer talks to."""
    shapes = space.shapes
    strides = Strides.of(shapes, placement)  # type: ignore[arg-type]
    columns = [np.where(shapes.tp > 1, strides.tp, 0), np.where(shapes.cp > 1, strides.cp, 0)]
    if has_experts:
        columns += [strides.tp, strides.cp, strides.dp, strides.pp]
    return np.stack(columns, axis=1)


def _unique_rows(rows: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the distinct rows, where each stands first, and which of them each row is."""
    code = np.zeros(len(rows), dtype=np.int64)
    for column in rows.T:
        _, number = np.unique(column, return_inverse=True)
        code = np.unique(code * (number.max(initial=0) + 1) + number, return_inverse=True)[1]
    _, first, of = np.unique(code, return_index=True, return_inverse=True)
    return rows[first], first, of


def splits(schedule: str) -> bool:
    """Tell whether a schedule's backward passes are split."""
    return schedule in SCHEDULES and SCHEDULES[schedule].splits_backward
