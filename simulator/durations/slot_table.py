"""The table of costs of one scenario: what the ops of each slot of its step take.

    rows     fixed seconds | bytes over the network | share of matrix kernels (of SMs for collectives)
    columns  one for each slot of the structure: see ``workload.step.slots``

``run``, ``sweep``, ``search`` and ``montecarlo`` read the same table, one scenario or many at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.durations.data_parallel import collective_costs, copy_seconds
from simulator.durations.price import leaf_cost
from simulator.durations.stage_passes import pass_costs, sequence_costs
from simulator.durations.step_end import HeldRank, message_costs, rank_costs
from simulator.workload.step.end_works import rank_pair, stage_copy_work
from simulator.workload.step.pass_bytes import by_slot
from simulator.workload.step.units import stage_units
from simulator.workload.step.works import pair_works

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.costs.system import System
    from simulator.workload.program import Floats
    from simulator.workload.step.settings import StepSettings
    from simulator.workload.step.slots import Holding
    from simulator.workload.step.stages import StageKind
    from simulator.workload.step.structure import Structure

FIXED_S, NETWORK_BYTES, SHARE = range(3)


def slot_costs(
    settings: StepSettings,
    system: System,
    structure: Structure,
    kinds: Sequence[StageKind],
    *,
    whole_update: bool = False,
) -> Floats:
    """Return what the ops of each slot cost.

    Args:
        settings: What the works are made of.
        system: The hardware and the software.
        structure: The layout, with the kinds of its stages and ranks.
        kinds: The kinds of stages.
        whole_update: Whether the optimizer step is one op of each rank, whatever of it goes through host
            memory.

    Returns:
        [FIXED_S, NETWORK_BYTES or SHARE, slot]
    """
    slots, layout = structure.slots, structure.layout
    costs = np.zeros((3, slots.size))
    for number, holding in enumerate(structure.holdings):
        first = number * slots.per_holding
        block = costs[:, first : first + slots.per_holding]
        held = layout.holdings[holding]
        _put_holding(block, settings, system, structure, kinds[structure.stage_kind[held.stage]], held)
    ranks = costs[:, slots.first_rank : slots.first_pair].reshape(3, slots.ranks, -1)
    for number, (rank, stages) in enumerate(zip(structure.ranks, structure.kinds_held, strict=True)):
        outlines = tuple(kinds[index].outline for index in stages)
        at = HeldRank(rank=rank, end_ranks=structure.end_ranks, whole_update=whole_update)
        ranks[:, number] = rank_costs(settings, outlines, at, system)
    for number, pair in enumerate(slots.pairs):
        own = system.at(layout.holdings[structure.holdings[pair.forward_holding]].rank)
        for place, work in enumerate(pair_works(settings.layers, settings.states, structure, kinds, pair)):
            costs[[FIXED_S, SHARE], slots.first_pair + 2 * number + place] = sequence_costs(work, own)
    apart = settings.mesh.stride("pp")
    sent = message_costs(slots.messages, settings.message_bytes, apart, system)
    costs[[FIXED_S, NETWORK_BYTES], slots.first_message :] = sent
    return costs


def _put_holding(
    block: Floats,
    settings: StepSettings,
    system: System,
    structure: Structure,
    kind: StageKind,
    held: Holding,
) -> None:
    """Fill the block of a stage on a rank."""
    slots, states, layers = structure.slots, settings.states, settings.layers
    stage, rank = held
    own = system.at(rank)
    units = stage_units(states, kind.outline)
    passes = pass_costs(kind, layers, units.starts, own)
    block[[FIXED_S, SHARE], : slots.collectives] = by_slot(passes, slots.parts)
    # Where no pass is cut, the layout has one part and the stage may have more.
    collectives = collective_costs(units, system, rank)[:, : slots.copies - slots.collectives]
    block[:, slots.collectives : slots.collectives + collectives.shape[1]] = collectives
    if states.sharding.method == "zero3":
        copies = copy_seconds(units, states, settings.copying, layers.options, own)
        copies = copies[: slots.stage_copy - slots.copies]
        block[FIXED_S, slots.copies : slots.copies + len(copies)] = copies
    ranks = [other.rank for other in structure.layout.holdings if other.stage == stage]
    if len(ranks) > 1:
        pair = rank_pair(settings.mesh.stride("pp"), *ranks)
        work = stage_copy_work(states, kind.outline, pair)
        block[[FIXED_S, NETWORK_BYTES], slots.stage_copy] = leaf_cost(work, system, rank)
