"""The table of costs of one scenario: what the ops of each slot of its step take.

    rows     fixed seconds | bytes over the network | share of matrix kernels (of SMs for collectives)
    columns  one for each slot of the structure: see ``workload.step.slots``

``run``, ``sweep``, ``search`` and ``montecarlo`` read the same table, one scenario or many at once. Tables
are shared: nobody may change them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from simulator.durations.data_parallel import collective_costs, copy_seconds
from simulator.durations.price import leaf_cost
from simulator.durations.stage_passes import pass_costs, sequence_costs
from simulator.durations.step_end import HeldRank, message_costs, rank_costs
from simulator.workload.program import BlockSequence
from simulator.workload.step.end_works import rank_pair, stage_copy_work
from simulator.workload.step.pass_bytes import put_passes
from simulator.workload.step.units import stage_units
from simulator.workload.step.works import output_works, pair_works

if TYPE_CHECKING:
    from simulator.costs.system import System
    from simulator.workload.program import Floats
    from simulator.workload.step.settings import StepSettings
    from simulator.workload.step.slots import Slots
    from simulator.workload.step.structure import Arrangement, HoldingKind

FIXED_S, NETWORK_BYTES, SHARE = range(3)


@lru_cache(maxsize=16384)
def slot_costs(
    settings: StepSettings, system: System, arrangement: Arrangement, *, whole_update: bool = False
) -> Floats:
    """Return what the ops of each slot cost.

    Args:
        settings: What the works are made of.
        system: The hardware and the software.
        arrangement: What the slots stand for.
        whole_update: Whether the optimizer step is one op of each rank, whatever of it goes through host
            memory.

    Returns:
        [FIXED_S, NETWORK_BYTES or SHARE, slot]
    """
    slots = arrangement.slots
    costs = np.zeros((3, slots.size))
    blocks = costs[:, : slots.first_rank].reshape(3, slots.holdings, -1)
    for index, holding in enumerate(arrangement.holdings):
        _put_holding(blocks[:, index], settings, system, slots, holding)
    ranks = costs[:, slots.first_rank : slots.first_pair].reshape(3, slots.ranks, -1)
    for index, rank in enumerate(arrangement.ranks):
        at = HeldRank(rank=rank.rank, end_ranks=arrangement.end_ranks, whole_update=whole_update)
        ranks[:, index] = rank_costs(settings.end, settings.stages.outlines(rank.stages), at, system)
    if settings.vocabulary != "none":
        _put_output_layer(ranks, settings, system, arrangement)
    for index, pair in enumerate(slots.pairs):
        local = system.at(arrangement.holdings[pair.forward_holding].rank)
        for second, work in enumerate(pair_works(settings, arrangement, pair)):
            costs[[FIXED_S, SHARE], slots.first_pair + 2 * index + second] = sequence_costs(work, local)
    apart = settings.mesh.stride("pp")
    sent = message_costs(slots.messages, settings.message_bytes, apart, system)
    costs[[FIXED_S, NETWORK_BYTES], slots.first_message :] = sent
    return costs


def _put_output_layer(
    ranks: Floats, settings: StepSettings, system: System, arrangement: Arrangement
) -> None:
    """Fill in what passes S and T of a divided output layer cost on each kind of rank."""
    for index, rank in enumerate(arrangement.ranks):
        for slot, work in output_works(settings):
            if isinstance(work, BlockSequence):
                cost = sequence_costs(work, system.at(rank.rank))
                ranks[[FIXED_S, SHARE], index, slot] = cost
            else:
                ranks[[FIXED_S, NETWORK_BYTES], index, slot] = leaf_cost(work, system, rank.rank)


def _put_holding(
    block: Floats, settings: StepSettings, system: System, slots: Slots, holding: HoldingKind
) -> None:
    """Fill the block of a stage on a rank."""
    states, layers, kind = settings.states, settings.layers, settings.stages.kinds[holding.stage]
    local = system.at(holding.rank)
    units = stage_units(states, kind.outline)
    passes = pass_costs(kind, layers, units.starts, local)
    put_passes(block[:: SHARE - FIXED_S], passes, slots)
    # Where no pass is cut, the layout has one bucket and the stage may have more.
    collectives = collective_costs(units, system, holding.rank)[:, : slots.copies - slots.collectives]
    block[:, slots.collectives : slots.collectives + collectives.shape[1]] = collectives
    if states.sharding.method == "zero3":
        copies = copy_seconds(units, states, settings.copying, layers.options, local)
        copies = copies[: slots.stage_copy - slots.copies]
        block[FIXED_S, slots.copies : slots.copies + len(copies)] = copies
    if holding.copies:
        pair = rank_pair(settings.mesh.stride("pp"), *holding.copies)
        work = stage_copy_work(states, kind.outline, pair)
        block[[FIXED_S, NETWORK_BYTES], slots.stage_copy] = leaf_cost(work, system, holding.rank)
