"""The layouts of one search with everything that their bounds look up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from simulator.costs.system import System
from simulator.explore.search.layer_classes import Classes, LayerClass
from simulator.explore.search.pipelines import Family, families, scenario_of
from simulator.explore.search.rules import Strides, space_of
from simulator.explore.search.space import LAYER_AXES
from simulator.explore.search.stage_parameters import Parameters
from simulator.scenario.parameters import ModelParameters
from simulator.workload.grid import ExpertMesh, Mesh
from simulator.workload.parameters.counts import LocalParameters
from simulator.workload.parameters.stage_outline import outlines, ranks_sharing_tables
from simulator.workload.pipeline import Pipeline, pairs_passes
from simulator.workload.step.settings import step_settings

if TYPE_CHECKING:
    from simulator.explore.search.axes import Values
    from simulator.explore.search.layer_classes import Floats, LayerMix
    from simulator.explore.search.space import Ints, Space
    from simulator.files import Variations
    from simulator.scenario import Scenario


@dataclass(slots=True, kw_only=True)
class Layouts:
    """All layouts of a scenario whose settings other than the axes' are given.

    Attributes:
        variations: The scenario.
        space: Its layouts.
        families: The layouts by pipeline.
        near: Classes of layers with the same kernels.
        with_topology: Classes of layers whose ranks also lie alike.
        system: The hardware and the software.
        profiles: Profiles of the families, by their number.
        built: Classes that were needed up to now, by whether topology counts and their index.
        tables: What they hold and take, by class, mix of layers, whether topology counts, and whether it is
            seconds.
    """

    variations: Variations
    space: Space
    families: tuple[Family, ...]
    near: Classes
    with_topology: Classes
    system: System
    profiles: dict[int, LayerMix]
    built: dict[tuple[bool, int], LayerClass] = field(default_factory=dict)
    tables: dict[tuple[int, int, bool, bool], Floats] = field(default_factory=dict)
    _parameters: dict[tuple[object, ...], Parameters] = field(default_factory=dict)
    _examples: dict[tuple[int, int], Scenario] = field(default_factory=dict)
    _strides: dict[Family, Strides] = field(default_factory=dict)
    _of_families: dict[Family, Parameters] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Values, variations: Variations) -> Layouts:
        """Lay out a space."""
        space = space_of(values, variations)
        found = tuple(families(space, variations))
        return cls(
            variations=variations,
            space=space,
            families=found,
            profiles={family.profile.number: family.profile for family in found},
            near=Classes.find(space, variations, with_topology=False),
            with_topology=Classes.find(space, variations, with_topology=True),
            system=System(cluster=variations.cluster, software=variations.software),
        )

    def scenario(self, shape: int, layer: int, step: int) -> Scenario:
        """Return one layout as a scenario.

        Raises:
            ScenarioError: It breaks a rule that the space does not know.
        """
        return scenario_of(self.space, self.variations, shape, layer, step)

    def example(self, shape: int, layer: int) -> Scenario:
        """Return a layout of a shape and a way of running layers, for what all of these have in common."""
        key = (shape, layer)
        if key not in self._examples:
            step = int(np.argmax(self.space.possible[key]))
            self._examples[key] = scenario_of(self.space, self.variations, *key, step, checks=False)
        return self._examples[key]

    def layer_class(self, number: int, *, with_topology: bool) -> LayerClass:
        """Return a class of layers."""
        key = (with_topology, number)
        if key not in self.built:
            shape, layer = (self.with_topology if with_topology else self.near).example[number].tolist()
            example = self.example(shape, layer)
            self.built[key] = LayerClass(
                step_settings(example),
                Pipeline.of(example).runs_in_pairs or pairs_passes(example.parallelism.schedule),
            )
        return self.built[key]

    def strides(self, family: Family) -> Strides:
        """Return where the ranks of each pair of a family lie."""
        if family not in self._strides:
            self._strides[family] = self._find_strides(family)
        return self._strides[family]

    def _find_strides(self, family: Family) -> Strides:
        placement = self.space.layers[family.layer, LAYER_AXES.index("placement")]
        found = [Strides.of(self.space.shapes, order) for order in self.space.values["placement"]]  # type: ignore[arg-type]
        at = placement, family.shape
        return Strides(
            **{name: np.stack([getattr(s, name) for s in found])[at] for name in ("tp", "cp", "dp", "pp")}
        )

    def parameters(self, family: Family) -> Parameters:
        """Return the parameters of each pair of a family."""
        if family not in self._of_families:
            self._of_families[family] = self._count_parameters(family)
        return self._of_families[family]

    def _count_parameters(self, family: Family) -> Parameters:
        shapes = self.space.shapes
        columns = np.stack([shapes.tp, shapes.ep], axis=1)[family.shape]
        rows, first, of = np.unique(columns, axis=0, return_index=True, return_inverse=True)
        found = []
        for row, at in zip(rows.tolist(), first.tolist(), strict=True):
            key = (*row, family.pp, family.vpp, family.stage_layers)
            if key not in self._parameters:
                example = self.example(int(family.shape[at]), int(family.layer[at]))
                stages = outlines(
                    ModelParameters.of(example.model),
                    family.stage_layers,
                    ranks_sharing_tables(example.parallelism.vocabulary, family.pp),
                )
                self._parameters[key] = Parameters.of(
                    LocalParameters.of(example.model, example.parallelism), stages
                )
            found.append(self._parameters[key])
        return Parameters.stacked(found, of.reshape(-1))

    def shard(self, family: Family) -> tuple[Ints, Ints]:
        """Return the most ranks that may share one copy of a dense parameter, and of an expert's."""
        shapes, rows = self.space.shapes, family.shape
        tp, cp, dp = shapes.tp[rows], shapes.cp[rows], shapes.dp[rows]
        given = self.variations.file.parallelism.etp
        experts = ExpertMesh(
            mesh=Mesh(placement=(), tp=tp, cp=cp, dp=dp, pp=shapes.pp[rows]),
            ep=shapes.ep[rows],
            etp=tp if given is None else np.full_like(tp, given),
        )
        return dp * cp, experts.edp

    def classes(self, family: Family, pairs: Ints, *, with_topology: bool) -> tuple[list[int], Ints]:
        """Return the classes of some pairs of a family, and which of these each pair has."""
        classes = self.with_topology if with_topology else self.near
        numbers, of = np.unique(classes.of[family.shape[pairs], family.layer[pairs]], return_inverse=True)
        return numbers.tolist(), of.reshape(-1)

    def held(self, number: int, profile: int) -> Floats:
        """Return what the layers of a class hold, for a profile: see ``LayerClass.bytes_of``."""
        key = (number, profile, False, False)
        if key not in self.tables:
            self.tables[key] = self.layer_class(number, with_topology=False).bytes_of(self.profiles[profile])
        return self.tables[key]

    def times(self, number: int, profile: int, *, with_topology: bool) -> Floats:
        """Return the seconds of the layers of a class, for a profile: see ``LayerClass.times_of``."""
        key = (number, profile, with_topology, True)
        if key not in self.tables:
            layer = self.layer_class(number, with_topology=with_topology)
            self.tables[key] = layer.times_of(self.profiles[profile], self.system, alone=not with_topology)
        return self.tables[key]

    def knows(self, number: int, profile: int, *, with_topology: bool, timed: bool) -> bool:
        """Tell whether ``held`` or ``times`` is answered without work."""
        return (number, profile, with_topology, timed) in self.tables

    def learn(self, number: int, profile: int, found: Floats, *, with_topology: bool, timed: bool) -> None:
        """Take up what another process answered for ``held`` or ``times``."""
        self.tables[number, profile, with_topology, timed] = found
