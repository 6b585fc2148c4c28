"""How long the collectives of gradient buckets (or FSDP units) take, and the copies beside them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from simulator.durations.contention import held_multiprocessors
from simulator.durations.layers import block_seconds
from simulator.durations.price import leaf_cost
from simulator.workload.program import BlockSequence
from simulator.workload.step.slots import COLLECTIVES, COPIES, MAX_PER_BUCKET
from simulator.workload.step.units import unit_copies

if TYPE_CHECKING:
    from simulator.costs.system import System
    from simulator.workload.layers.lower import LayerOptions
    from simulator.workload.parameters.model_states import ModelStates
    from simulator.workload.program import Floats
    from simulator.workload.step.units import Copy, StageUnits, UnitCopying
    from simulator.workload.work import Collective


@lru_cache(maxsize=16384)
def collective_costs(units: StageUnits, system: System, rank: int) -> Floats:
    """Return what the collectives of a stage's buckets cost.

    Args:
        units: The buckets.
        system: The hardware and the software.
        rank: A rank with the hardware that runs the stage.

    Returns:
        [fixed seconds, bytes over the network or share of SMs, bucket x COLLECTIVES x MAX_PER_BUCKET], as of
        ``Slots.of_collective``; zero where a bucket has fewer.
    """
    costs = np.zeros((3, len(units.units), len(COLLECTIVES), MAX_PER_BUCKET))
    for number, unit in enumerate(units.units):
        for sort, collectives in enumerate(unit.collectives):
            for place, collective in enumerate(collectives):
                costs[:, number, sort, place] = _collective_cost(collective, system, rank)
    return costs[:, list(units.index)].reshape(3, -1)


@lru_cache(maxsize=65536)
def _collective_cost(work: Collective, system: System, rank: int) -> tuple[float, float, float]:
    share = held_multiprocessors(work, system) / system.at(rank).cluster.gpu.multiprocessors
    return *leaf_cost(work, system, rank), min(1.0, share)


@lru_cache(maxsize=16384)
def copy_seconds(
    units: StageUnits, states: ModelStates, copying: UnitCopying, options: LayerOptions, system: System
) -> Floats:
    """Return the seconds of the copies of FSDP's units.

    Args:
        units: The units.
        states: How weights and gradients are kept.
        copying: Which copies the stack makes.
        options: How kernels are run.
        system: The hardware and the software of the rank that runs them.

    Returns:
        [unit x COPIES], as of ``Slots.of_copy``; zero for copies that the stack does not make.
    """
    seconds = np.zeros((len(units.units), len(COPIES)))
    for number, unit in enumerate(units.units):
        for place, copy in enumerate(unit_copies(states, copying, options, unit.parameters)):
            if copy is not None:
                seconds[number, place] = _copy_s(copy, system)
    return seconds[list(units.index)].reshape(-1)


def _copy_s(copy: Copy, system: System) -> float:
    if isinstance(copy, BlockSequence):
        return sum(count * block_seconds(block, system) for block, count in copy.blocks)
    return leaf_cost(copy, system, 0)[0]
