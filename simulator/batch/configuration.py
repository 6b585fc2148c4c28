"""One scenario as the costs of a template's slots."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from simulator.batch.structure import Structure, alike_stages, structure_of
from simulator.durations.data_parallel import bucket_costs
from simulator.durations.stage_passes import PASSES, SECONDS, pass_costs
from simulator.durations.step_end import HELD, message_seconds, rank_costs, single_seconds
from simulator.results.metrics import peak_flop_per_s
from simulator.schedules import SCHEDULES, Overlapped, Request
from simulator.schedules.csv_form import CUSTOM
from simulator.workload.layers.layer_work import layer_settings
from simulator.workload.layers.low_precision import quantisation
from simulator.workload.parameters.model_states import sums_gradients_locally
from simulator.workload.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.durations.data_parallel import BucketCosts
    from simulator.durations.stage_passes import PassCosts
    from simulator.durations.step_end import RankCosts
    from simulator.scenario import Scenario
    from simulator.workload.program import Floats

TERMS = (*HELD, "logits")
"""Terms of memory besides activations and what the allocator loses."""


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
    parallelism, training, pipeline = scenario.parallelism, scenario.training, Pipeline.of(scenario)
    return (
        parallelism.schedule != CUSTOM
        and SCHEDULES[parallelism.schedule].copies == 1
        and parallelism.vocabulary == "none"
        and not pipeline.uses_times
        and not _runs_in_pairs(parallelism.schedule, parallelism.pp, parallelism.vpp)
        and not pipeline.runs_in_pairs
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


def configure(scenario: Scenario) -> Configuration:
    """Return a regular scenario in the terms of its template.

    Raises:
        InputError: It asks for what its hardware or software does not have.
    """
    peak_flop_per_s(scenario.cluster, scenario.training.precision)
    settings, alike = layer_settings(scenario), alike_stages(scenario)
    buckets = [bucket_costs(scenario, kind.outline) for kind in alike.kinds]
    structure = structure_of(scenario, alike, buckets)
    cuts = structure.template.cuts
    passes = [
        pass_costs(scenario, kind, settings, bucket.starts if cuts else None)
        for kind, bucket in zip(alike.kinds, buckets, strict=True)
    ]
    ranks = rank_costs(scenario, structure.ranks_of(alike))
    every = scenario.parallelism.reduce_every_microbatch
    sums = sums_gradients_locally(scenario.num_microbatches, reduces_every=every)
    return Configuration(
        structure=structure,
        costs=_costs(structure, passes, buckets, _end_seconds(scenario, structure, ranks)),
        summed=tuple(bucket.sharded_gradient_bytes * sums for bucket in buckets),
        static=[
            (*held, max(passes[place].working_bytes for place in mine))
            for held, mine in zip(ranks.held, structure.ranks, strict=True)
        ],
        scenario=scenario,
    )


def _costs(
    structure: Structure, passes: Sequence[PassCosts], buckets: Sequence[BucketCosts], ends: Floats
) -> Floats:
    """Return the costs of all slots."""
    slots = structure.template.slots
    costs = np.zeros((4, structure.num_slots))
    for place, (mine, bucket) in enumerate(zip(passes, buckets, strict=True)):
        first = place * slots.per_stage
        collectives, copies = first + slots.collectives, first + slots.copies
        table = costs[:, first:collectives].reshape(4, len(PASSES), 1 + slots.parts)
        table[..., : mine.table.shape[2]] = mine.table
        if structure.template.cuts:
            costs[:2, collectives : collectives + bucket.collectives.shape[1]] = bucket.collectives
            costs[SECONDS, copies : copies + len(bucket.copies)] = bucket.copies
    costs[SECONDS, len(passes) * slots.per_stage :] = ends
    return costs


def _end_seconds(scenario: Scenario, structure: Structure, ranks: RankCosts) -> Floats:
    """Return the seconds of messages, of optimizer steps and casts by rank, and of what there is one of."""
    messages = message_seconds(scenario, structure.template.slots.messages)
    by_rank = ranks.seconds[:, structure.rank].reshape(-1)
    return np.concatenate((messages, by_rank, single_seconds(scenario, *structure.outer_ranks)))
