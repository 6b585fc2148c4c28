"""One scenario as columns for a structure that it shares with others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from simulator.costs.system import System
from simulator.durations.slot_table import slot_costs
from simulator.results.metrics import peak_flop_per_s
from simulator.workload.parameters.model_states import (
    held_memory,
    sharded_gradient_bytes,
    sums_gradients_locally,
)
from simulator.workload.pipeline import Pipeline
from simulator.workload.step.build import shared_inputs, slot_bytes
from simulator.workload.step.pass_bytes import stage_bytes
from simulator.workload.step.settings import step_settings
from simulator.workload.step.structure import Structure, structure_of
from simulator.workload.step.units import stage_units

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.program import Floats
    from simulator.workload.step.settings import StepSettings
    from simulator.workload.step.structure import RankKind

HELD = ("framework", "weights", "gradients", "optimizer", "communication_buffers")
"""Terms of memory that do not depend on how layers run."""
TERMS = (*HELD, "logits")
"""Terms of memory besides activations and what the allocator loses."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Configuration:
    """A scenario in the terms of its structure.

    Attributes:
        structure: Its layout, with the kinds of its stages and ranks.
        costs: [FIXED_S, NETWORK_BYTES or SHARE, slot] See ``slot_costs``.
        bytes: [ALLOCATED or FREED, slot] Activation bytes of the ops of each slot.
        summed: [kind of stage] Bytes of whole gradients that exist only while they are summed up.
        static: [kind of rank, TERMS] Bytes that it holds besides activations; of gradients without what
            passes add.
        scenario: The scenario.
    """

    structure: Structure
    costs: Floats
    bytes: Floats
    summed: Floats
    static: Floats
    scenario: Scenario


def shares_layouts(scenario: Scenario) -> bool:
    """Tell whether a scenario's step can be run beside others: its ranks are equal, and so are its steps."""
    mixed, continuous = scenario.cluster.pools, scenario.training.post_validation
    return not (mixed or continuous or Pipeline.of(scenario).uses_times)


def configure(scenario: Scenario) -> Configuration:
    """Return a scenario in the terms of its structure.

    Raises:
        InputError: It asks for what its hardware or software does not have.
    """
    peak_flop_per_s(scenario.cluster, scenario.training.precision)
    settings, pipeline = step_settings(scenario), Pipeline.of(scenario)
    inputs = shared_inputs(scenario, settings, pipeline)
    structure = structure_of(inputs, settings.stages.index, (0,) * pipeline.pp)
    arrangement = structure.arrangement
    sums = sums_gradients_locally(pipeline.num_microbatches, reduces_every=inputs.reduces_every_microbatch)
    return Configuration(
        structure=structure,
        costs=slot_costs(settings, System.of(scenario), arrangement, whole_update=True),
        bytes=slot_bytes(settings, arrangement),
        summed=_summed(settings, sums),
        static=_static(settings, arrangement.ranks),
        scenario=scenario,
    )


@lru_cache(maxsize=16384)
def _summed(settings: StepSettings, sums: bool) -> Floats:
    """Return the bytes of whole gradients of each kind of stage; see ``Configuration.summed``."""
    local, sharding, size = settings.states.local, settings.states.sharding, settings.states.sizes.gradient
    return np.array(
        [sums * sharded_gradient_bytes(local, sharding, size, kind.outline) for kind in settings.stages.kinds]
    )


@lru_cache(maxsize=16384)
def _static(settings: StepSettings, ranks: tuple[RankKind, ...]) -> Floats:
    """Return what ranks of each kind hold besides activations; see ``Configuration.static``."""
    states, stages = settings.states, settings.stages
    working = [
        stage_bytes(kind, settings.layers, stage_units(states, kind.outline).starts).working_bytes
        for kind in stages.kinds
    ]
    return np.array(
        [
            (
                *_terms(held_memory(states, stages.outlines(rank.stages))),
                max(working[kind] for kind in rank.stages),
            )
            for rank in ranks
        ]
    )


_terms = attrgetter(*HELD)
