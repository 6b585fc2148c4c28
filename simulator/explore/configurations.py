"""One scenario as the costs of a template's slots."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from simulator.explore.bucket_costs import bucket_costs
from simulator.explore.end_costs import (
    message_seconds,
    norm_seconds,
    overhead_seconds,
    tied_seconds,
    update_seconds,
)
from simulator.explore.part_costs import PASSES, pass_costs, works_costs
from simulator.explore.structures import Structure, structure_of
from simulator.results.metrics import peak_flop_per_s
from simulator.scenario.remembered import remembered
from simulator.workload.pipeline import CUSTOM, runs_in_pairs, uses_times
from simulator.workload.precision import quantisation
from simulator.workload.schedules import SCHEDULES, Overlapped, Request
from simulator.workload.stages import layer_settings, stage_kinds
from simulator.workload.static_memory import held_memory, summed_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.explore.bucket_costs import BucketCosts
    from simulator.scenario import Scenario
    from simulator.workload.program import Floats
    from simulator.workload.stages import LayerSettings, StageKind

TERMS = ("framework", "weights", "gradients", "optimizer", "communication_buffers", "logits")
"""Terms of memory besides activations and what the allocator loses."""
_held_terms = attrgetter(*TERMS[:-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Configuration:
    """A scenario in the terms of a template.

    Attributes:
        structure: Its template, and which of its stages are alike.
        costs: Seconds alone, share of matrix kernels or multiprocessors, bytes taken and given back (rows),
            by slot of the structure.
        summed: Bytes of the whole gradients of each kind of stage that exist only while they are summed up.
        static: Bytes that each kind of rank (rows) holds besides activations, by ``TERMS``; of gradients
            without what passes add.
        scenario: The scenario.
    """

    structure: Structure
    costs: Floats
    summed: tuple[float, ...]
    static: list[tuple[float, ...]]
    scenario: Scenario


def is_regular(scenario: Scenario) -> bool:
    """Tell whether a scenario's step is a template; the others have to be laid out op by op."""
    parallelism, training = scenario.parallelism, scenario.training
    return (
        parallelism.schedule != CUSTOM
        and SCHEDULES[parallelism.schedule].copies == 1
        and parallelism.vocabulary == "none"
        and not uses_times(scenario)
        and not _runs_in_pairs(parallelism.schedule, parallelism.pp, parallelism.vpp)
        and not runs_in_pairs(scenario)
        and not training.post_validation
        and not scenario.cluster.pools
        and not _agrees_on_scales(scenario)
    )


@cache
def _runs_in_pairs(schedule: str, pp: int, vpp: int) -> bool:
    """Tell whether some passes of a schedule run together."""
    request = Request(pp=pp, vpp=vpp, num_microbatches=2 * pp)
    return any(isinstance(entry, Overlapped) for rank in SCHEDULES[schedule].order(request) for entry in rank)


def _agrees_on_scales(scenario: Scenario) -> bool:
    quantised = quantisation(scenario)
    return quantised is not None and bool(quantised.recipe.history)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alike:
    """How the stages of a scenario are alike: the different kinds, and the place of each stage's among them."""

    kinds: tuple[StageKind, ...]
    which: tuple[int, ...]


@remembered
def alike_stages(scenario: Scenario) -> Alike:
    """Return how the stages of a scenario are alike."""
    every = stage_kinds(scenario)
    kinds = tuple(dict.fromkeys(every))
    return Alike(kinds=kinds, which=tuple(kinds.index(kind) for kind in every))


def configure(scenario: Scenario) -> Configuration:
    """Return a regular scenario in the terms of its template.

    Raises:
        InputError: It asks for what its hardware or software does not have.
    """
    peak_flop_per_s(scenario.cluster, scenario.training.precision)
    settings, alike = layer_settings(scenario), alike_stages(scenario)
    buckets = [bucket_costs(scenario, kind) for kind in alike.kinds]
    structure = structure_of(scenario, alike.kinds, alike.which, buckets)
    return Configuration(
        structure=structure,
        costs=_costs(scenario, structure, alike.kinds, settings, buckets),
        summed=tuple(summed_bytes(scenario, kind) for kind in alike.kinds),
        static=_static_bytes(scenario, structure, alike.kinds, settings),
        scenario=scenario,
    )


def _costs(
    scenario: Scenario,
    structure: Structure,
    kinds: Sequence[StageKind],
    settings: LayerSettings,
    buckets: Sequence[BucketCosts],
) -> Floats:
    """Return the costs of all slots."""
    slots, cuts = structure.template.slots, structure.template.cuts
    costs = np.zeros((4, structure.num_slots))
    for place, (kind, bucket) in enumerate(zip(kinds, buckets, strict=True)):
        mine = costs[:, place * slots.per_stage : (place + 1) * slots.per_stage]
        passes = pass_costs(scenario, kind, settings, cuts=cuts)
        table = mine[:, : slots.collectives].reshape(4, len(PASSES), 1 + slots.parts)
        table[..., : passes.shape[2]] = passes
        if cuts:
            _put(mine[:2, slots.collectives :], bucket.collectives)
            _put(mine[:1, slots.copies :], bucket.copies)
    _put(costs[:1, len(kinds) * slots.per_stage :], _end_seconds(scenario, structure, kinds))
    return costs


def _put(table: Floats, values: Floats) -> None:
    table[:, : values.shape[-1]] = values


def _end_seconds(scenario: Scenario, structure: Structure, kinds: Sequence[StageKind]) -> Floats:
    """Return the seconds of messages, of optimizer steps and casts by rank, and of what there is one of."""
    ends = np.array(
        [update_seconds(scenario, tuple(kinds[place] for place in mine)) for mine in structure.ranks]
    )
    singles = (
        norm_seconds(scenario),
        tied_seconds(scenario, *structure.outer_ranks),
        overhead_seconds(scenario),
    )
    messages = message_seconds(scenario, structure.template.slots.messages)
    return np.concatenate((messages, ends.T[:, structure.rank].reshape(-1), singles))


def _static_bytes(
    scenario: Scenario, structure: Structure, kinds: Sequence[StageKind], settings: LayerSettings
) -> list[tuple[float, ...]]:
    working = [works_costs(scenario, kind, settings).working_bytes for kind in kinds]
    return [
        (
            *_held_terms(held_memory(scenario, tuple(kinds[place] for place in mine))),
            max(working[place] for place in mine),
        )
        for mine in structure.ranks
    ]
