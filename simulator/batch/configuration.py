"""One scenario as columns for a structure that it shares with others."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from simulator.costs.system import System
from simulator.durations.slot_table import slot_costs
from simulator.results.metrics import peak_flop_per_s
from simulator.workload.parameters.model_states import (
    held_memory,
    sharded_gradient_bytes,
    sums_gradients_locally,
)
from simulator.workload.pipeline import Pipeline
from simulator.workload.step.build import kinds_of_stages, shared_inputs, slot_bytes
from simulator.workload.step.pass_bytes import stage_bytes
from simulator.workload.step.settings import StepSettings
from simulator.workload.step.structure import Structure, structure_of
from simulator.workload.step.units import stage_units

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.program import Floats

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
    summed: tuple[float, ...]
    static: list[tuple[float, ...]]
    scenario: Scenario

    def seconds(self) -> Floats:
        """Return the seconds of the ops of each slot when nothing else uses their links."""
        fixed_s, network_bytes, _ = self.costs
        seconds: Floats = fixed_s + network_bytes / self.scenario.cluster.network.bytes_per_s_per_gpu
        return seconds


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
    stages, settings = kinds_of_stages(scenario), StepSettings.of(scenario)
    kinds, states = stages.kinds, settings.states
    inputs = shared_inputs(scenario, settings, stages)
    structure = structure_of(inputs, stages.index, (0,) * inputs.pipeline.pp)
    units = [stage_units(states, kind.outline) for kind in kinds]
    working = [
        stage_bytes(kind, settings.layers, unit.starts).working_bytes
        for kind, unit in zip(kinds, units, strict=True)
    ]
    sums = sums_gradients_locally(
        inputs.pipeline.num_microbatches, reduces_every=inputs.reduces_every_microbatch
    )
    return Configuration(
        structure=structure,
        costs=slot_costs(settings, System.of(scenario), structure, kinds, whole_update=True),
        bytes=slot_bytes(settings, structure, kinds),
        summed=tuple(
            sums * sharded_gradient_bytes(states.local, states.sharding, states.sizes.gradient, kind.outline)
            for kind in kinds
        ),
        static=[
            (
                *_terms(held_memory(states, tuple(kinds[index].outline for index in held))),
                max(working[index] for index in held),
            )
            for held in structure.kinds_held
        ],
        scenario=scenario,
    )


_terms = attrgetter(*HELD)
