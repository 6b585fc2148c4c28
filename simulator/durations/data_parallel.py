"""How long the collectives of gradient buckets (or FSDP units) take, and the copies beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.costs.system import System
from simulator.durations.contention import held_multiprocessors
from simulator.durations.layers import block_seconds
from simulator.durations.price import leaf_cost
from simulator.scenario.remembered import remembered
from simulator.workload.program import BlockSequence
from simulator.workload.step.slots import COLLECTIVES, COPIES, MAX_PER_BUCKET
from simulator.workload.step.units import stage_units, unit_copies

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.parameters.stage_outline import Outline
    from simulator.workload.program import Floats
    from simulator.workload.step.units import Copy
    from simulator.workload.work import Collective


@remembered
def collective_costs(scenario: Scenario, stage: Outline, rank: int) -> Floats:
    """Return what the collectives of a stage's buckets cost.

    Args:
        scenario: The request.
        stage: The stage.
        rank: A rank with the hardware that runs it.

    Returns:
        [fixed seconds, bytes over the network or share of SMs, bucket x COLLECTIVES x MAX_PER_BUCKET], as of
        ``Slots.of_collective``; zero where a bucket has fewer.
    """
    units = stage_units(scenario, stage)
    costs = np.zeros((3, len(units.units), len(COLLECTIVES), MAX_PER_BUCKET))
    for number, unit in enumerate(units.units):
        for sort, collectives in enumerate(unit.collectives):
            for place, collective in enumerate(collectives):
                costs[:, number, sort, place] = _collective_cost(scenario, collective, rank)
    return costs[:, list(units.index)].reshape(3, -1)


@remembered
def _collective_cost(scenario: Scenario, work: Collective, rank: int) -> tuple[float, float, float]:
    system = System.of(scenario)
    own = system.at(rank)
    share = held_multiprocessors(work, system) / own.cluster.gpu.multiprocessors
    return *leaf_cost(work, system, rank), min(1.0, share)


@remembered
def copy_seconds(scenario: Scenario, stage: Outline, rank: int) -> Floats:
    """Return the seconds of the copies of FSDP's units.

    Returns:
        [unit x COPIES], as of ``Slots.of_copy``; zero for copies that the stack does not make.
    """
    units = stage_units(scenario, stage)
    system = System.of(scenario).at(rank)
    seconds = np.zeros((len(units.units), len(COPIES)))
    for number, unit in enumerate(units.units):
        for place, copy in enumerate(unit_copies(scenario, unit.parameters)):
            if copy is not None:
                seconds[number, place] = _copy_s(copy, system)
    return seconds[list(units.index)].reshape(-1)


def _copy_s(copy: Copy, system: System) -> float:
    if isinstance(copy, BlockSequence):
        return sum(count * block_seconds(block, system) for block, count in copy.blocks)
    return leaf_cost(copy, system, 0)[0]
