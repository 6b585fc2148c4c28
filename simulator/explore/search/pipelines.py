"""Layouts with the same pipeline: what their bounds have in common is worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from simulator.explore.search.layer_classes import LayerMix
from simulator.explore.search.space import LAYER_AXES, STEP_AXES, Space
from simulator.files.layers import holders
from simulator.scenario.search import AXES
from simulator.schedules import SCHEDULES, Request
from simulator.schedules.csv_form import CUSTOM
from simulator.schedules.rounds import fits_rounds, round_size, warm_up
from simulator.workload.layers.plan import PlanOptions
from simulator.workload.parameters.stage_outline import ranks_sharing_tables
from simulator.workload.step.stages import stage_kinds

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from simulator.explore.search.layer_classes import Floats
    from simulator.explore.search.space import Bools, Ints
    from simulator.files import Variations
    from simulator.scenario import Scenario
    from simulator.workload.step.stages import StageKinds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Family:
    """Layouts with the same stages, schedule, recomputation and offloading of activations.

    Attributes:
        shape: Shape of each pair of a shape and a way of running layers.
        layer: StepOptions of running layers of each pair.
        pp: Pipeline ranks.
        vpp: Chunks per rank.
        schedule: Name of the schedule.
        stage_layers: Layers of each stage.
        profile: Kinds of layers of each stage.
        held: Stages of each rank, in model order; empty where ranks share stages or none is known.
        splits: Whether backward passes are split.
    """

    shape: Ints
    layer: Ints
    pp: int
    vpp: int
    schedule: str
    stage_layers: tuple[int, ...]
    profile: LayerMix
    held: tuple[tuple[int, ...], ...]
    splits: bool


def families(space: Space, variations: Variations) -> Iterator[Family]:
    """Yield the families of a space."""
    shapes = space.shapes
    plans = [LAYER_AXES.index(name) for name in ("recompute", "offload_activations")]
    pairs: Bools = np.asarray(space.possible.any(axis=2))
    kinds: dict[Hashable, int] = {}
    pipelines = np.stack([shapes.pp, shapes.vpp, shapes.stages, shapes.schedule], axis=1)
    for pipeline in np.unique(pipelines, axis=0):
        mine = np.flatnonzero((pipelines == pipeline).all(axis=1))
        for plan in np.unique(space.layers[:, plans], axis=0):
            ways = np.flatnonzero((space.layers[:, plans] == plan).all(axis=1))
            shape, layer = (found.astype(np.int64) for found in np.nonzero(pairs[np.ix_(mine, ways)]))
            if not shape.size:
                continue
            pp, vpp, stages, schedule = pipeline.tolist()
            name, layers = shapes.schedules[schedule], shapes.stage_layers[stages]
            step = int(np.flatnonzero(space.possible[mine[shape[0]], ways[layer[0]]])[0])
            example = scenario_of(
                space, variations, int(mine[shape[0]]), int(ways[layer[0]]), step, checks=False
            )
            yield Family(
                shape=mine[shape],
                layer=ways[layer],
                pp=pp,
                vpp=vpp,
                schedule=name,
                stage_layers=layers,
                profile=LayerMix.of(_stages(example, layers), kinds),
                held=_held(name, pp, vpp),
                splits=name in SCHEDULES and SCHEDULES[name].splits_backward,
            )


def scenario_of(
    space: Space, variations: Variations, shape: int, layer: int, step: int, *, checks: bool = True
) -> Scenario:
    """Return one layout of a space as a scenario; see ``Variations.scenario``.

    Raises:
        ScenarioError: It breaks a rule that the space does not know.
    """
    settings = space.settings(shape, layer, step)
    return variations.scenario({AXES[name]: value for name, value in settings.items()}, checks=checks)


def _stages(example: Scenario, stage_layers: tuple[int, ...]) -> StageKinds:
    """Return the kinds of stages of layouts like this one, which may break a rule and have none itself."""
    model, training, parallelism = example.model, example.training, example.parallelism
    stops_early = example.software.recompute_stops_early
    return stage_kinds(
        model,
        stage_layers,
        ranks_sharing_tables(parallelism.vocabulary, parallelism.pp),
        PlanOptions.of(training, model.num_hidden_layers, stops_early=stops_early),
        training.mean_document_length,
    )


def step_values(space: Space, name: str) -> list[object]:
    """Return the value of one of ``STEP_AXES`` in each way of running steps."""
    return [space.values[name][index] for index in space.steps[:, STEP_AXES.index(name)].tolist()]


@cache
def _held(schedule: str, pp: int, vpp: int) -> tuple[tuple[int, ...], ...]:
    """Return the stages of each rank, where each stage has one rank."""
    if schedule == CUSTOM or SCHEDULES[schedule].copies > 1:
        return ()
    owners = holders(schedule, pp, vpp)
    return tuple(tuple(stage for stage, ranks in enumerate(owners) if rank in ranks) for rank in range(pp))


def bounded_ranks(family: Family) -> list[int]:
    """Return the pipeline ranks that bounds look at: the first and last two, and one between them."""
    return sorted({0, min(1, family.pp - 1), family.pp // 2, max(0, family.pp - 2), family.pp - 1})


@dataclass(frozen=True, slots=True)
class InFlight:
    """Micro-batches whose activations are certainly held at one time.

    Attributes:
        counts: By stage, at the end of its rank's warm-up: after the forward passes before the first backward
            pass and the one that follows them (interleaved, 1F1B), after all of them (GPipe). None has been
            given back then.
        steady: By rank, passes of whichever of its stages that are in flight when each of its stages has
            begun backward passes; zero where that is not known.
    """

    counts: Floats
    steady: Floats


@cache
def in_flight(schedule: str, pp: int, vpp: int, microbatches: int, group_size: int | None) -> InFlight:
    """Return what the ranks of a schedule hold at least; zeros where that is not known."""
    counts, steady = np.zeros(pp * vpp), np.zeros(pp)
    request = Request(pp=pp, vpp=vpp, num_microbatches=microbatches, group_size=group_size)
    if schedule == "gpipe":
        counts[:] = microbatches
    elif schedule == "1f1b":
        counts[:] = np.minimum(microbatches, pp - np.arange(pp))
        steady[:] = counts
    elif schedule == "interleaved" and fits_rounds(request):
        size = round_size(request)
        whole = microbatches // size * size * vpp  # passes in rounds that are not cut short
        for rank in range(pp):
            ahead = warm_up(request, rank, per_hop=2)
            number = np.arange(min(ahead + 1, whole))
            counts[rank::pp] = np.bincount(number % (size * vpp) // size, minlength=vpp)
            # Backward passes begin one for each forward pass that is left, the last chunk's round first.
            if whole - ahead > (vpp - 1) * size:
                steady[rank] = ahead + 1
    return InFlight(counts, steady)
