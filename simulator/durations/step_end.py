"""How long the pipeline's messages take, and what ranks do once per step."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simulator.costs.collectives import lie_apart
from simulator.durations.price import leaf_cost
from simulator.engines import compiled
from simulator.engines.durations import Durations
from simulator.workload.step.end import update_program
from simulator.workload.step.end_works import rank_buckets, rank_end
from simulator.workload.step.inputs import OffloadedUpdate
from simulator.workload.step.messages import message
from simulator.workload.step.slots import RankSlot, Slots
from simulator.workload.step.works import rank_works
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.costs.system import System
    from simulator.workload.parameters.model_states import ModelStates
    from simulator.workload.parameters.stage_outline import StageOutline
    from simulator.workload.program import Floats
    from simulator.workload.step.settings import EndSettings
    from simulator.workload.step.slots import Message


@lru_cache(maxsize=16384)
def message_costs(messages: tuple[Message, ...], size: float, apart: int, system: System) -> Floats:
    """Return what messages cost.

    Args:
        messages: The messages.
        size: Bytes that one rank sends.
        apart: Distance between neighbouring pipeline ranks in global rank numbering.
        system: The hardware and the software.

    Returns:
        [fixed seconds or bytes over the network, message]
    """
    cost_of: dict[tuple[object, ...], tuple[float, float]] = {}
    costs: list[tuple[float, float]] = []
    for source, target, receives in messages:
        # Where all ranks have the same hardware, all that matters is whether the message leaves a domain.
        route = (source, target) if system.ranks else lie_apart(source, target, apart, system.cluster)
        key = (abs(target - source), receives, route)
        if key not in cost_of:
            work = message(size, apart, source, target, receives=receives)
            cost_of[key] = leaf_cost(work, system, source)
        costs.append(cost_of[key])
    return np.array(costs).reshape(-1, 2).T


class HeldRank(NamedTuple):
    """Where a rank is, and how its optimizer step is laid out.

    Attributes:
        rank: A rank with the same hardware and stages.
        end_ranks: Ranks of the first and of the last stage.
        whole_update: Whether its optimizer step is one op, whatever of it goes through host memory.
    """

    rank: int
    end_ranks: tuple[int, int]
    whole_update: bool


@lru_cache(maxsize=16384)
def rank_costs(
    settings: EndSettings, stages: tuple[StageOutline, ...], held: HeldRank, system: System
) -> Floats:
    """Return what a rank does besides passes through its stages and their data parallelism.

    Args:
        settings: What these works are made of.
        stages: The stages that it holds, in model order.
        held: Where it is.
        system: The hardware and the software.

    Returns:
        [fixed seconds or bytes over the network or share of matrix kernels, RankSlot]; zero for the output
        layer.
    """
    costs = np.zeros((3, len(RankSlot)))
    for slot, work in rank_works(settings, stages, held.end_ranks):
        if not (isinstance(work, Elementwise) and not work.bytes_moved):
            costs[:2, slot] = leaf_cost(work, system, held.rank)
    if held.whole_update and settings.states.offload.share:
        costs[0, RankSlot.OPTIMIZER] = _update_s(settings.states, stages, costs[0])
    return costs


def _update_s(states: ModelStates, stages: tuple[StageOutline, ...], seconds: Floats) -> float:
    """Return the seconds of a rank's whole optimizer step, part of it through host memory.

    It begins when the gradient norm is known and the rank has nothing else to do, so that how long copies,
    updates on the GPU and those of the host take together does not depend on what came before.

    Args:
        states: How optimizer state is kept.
        stages: The stages that the rank holds.
        seconds: [RankSlot] Seconds of its parts.
    """
    offloaded = OffloadedUpdate(
        on_host=states.offload.method == "cpu",
        overlaps=states.offload.overlaps,
        buckets=(rank_buckets(states, rank_end(states, stages).parameters),),
    )
    program = update_program(offloaded, Slots(holdings=0, buckets=0, ranks=1, pairs=(), messages=()))
    return compiled.run(program, Durations.of(seconds[program.work])).makespan_s
