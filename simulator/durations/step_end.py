"""How long the pipeline's messages take, and what ranks do once per step."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simulator.costs.collectives import lie_apart
from simulator.costs.system import System
from simulator.durations.price import leaf_cost
from simulator.durations.stage_passes import sequence_costs
from simulator.engines import compiled
from simulator.engines.durations import Durations
from simulator.scenario.remembered import remembered
from simulator.workload.grid import stride
from simulator.workload.parameters.optimizer_offload import offload_buckets, offloaded_share
from simulator.workload.program import BlockSequence
from simulator.workload.step.end import update_program
from simulator.workload.step.end_works import rank_end
from simulator.workload.step.inputs import OffloadedUpdate
from simulator.workload.step.messages import message
from simulator.workload.step.slots import RankSlot, Slots
from simulator.workload.step.works import output_works, rank_works
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.parameters.stage_outline import Outline
    from simulator.workload.program import Floats
    from simulator.workload.step.slots import Message


@remembered
def message_costs(scenario: Scenario, messages: tuple[Message, ...]) -> Floats:
    """Return what messages cost.

    Returns:
        [fixed seconds or bytes over the network, message]
    """
    system = System.of(scenario)
    apart = stride(scenario.parallelism, "pp")
    known: dict[tuple[object, ...], tuple[float, float]] = {}
    costs: list[tuple[float, float]] = []
    for source, target, receives in messages:
        # Of where equal ranks lie it only matters whether the message leaves a domain.
        place = (source, target) if system.ranks else lie_apart(source, target, apart, system.cluster)
        key = (abs(target - source), receives, place)
        if key not in known:
            work = message(scenario, source, target, receives=receives)
            known[key] = leaf_cost(work, system, source)
        costs.append(known[key])
    return np.array(costs).reshape(-1, 2).T


@remembered
def rank_costs(scenario: Scenario, stages: tuple[Outline, ...], held: HeldRank) -> Floats:
    """Return what a rank does besides passes through its stages and their data parallelism.

    Args:
        scenario: The request.
        stages: The stages that it holds, in model order.
        held: Where it is.

    Returns:
        [fixed seconds or bytes over the network or share of matrix kernels, RankSlot]
    """
    system = System.of(scenario)
    costs = np.zeros((3, len(RankSlot)))
    for slot, work in rank_works(scenario, stages, held.end_ranks):
        if not (isinstance(work, Elementwise) and not work.bytes_moved):
            costs[:2, slot] = leaf_cost(work, system, held.rank)
    if held.whole_update and offloaded_share(scenario):
        costs[0, RankSlot.OPTIMIZER] = _update_s(scenario, stages, costs[0])
    return costs


def output_costs(scenario: Scenario, rank: int) -> Floats:
    """Return what a rank's part of a divided output layer costs; see ``rank_costs``."""
    system = System.of(scenario)
    costs = np.zeros((3, len(RankSlot)))
    for slot, work in output_works(scenario):
        if isinstance(work, BlockSequence):
            costs[0, slot], costs[2, slot] = sequence_costs(work, system.at(rank))
        else:
            costs[:2, slot] = leaf_cost(work, system, rank)
    return costs


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


def _update_s(scenario: Scenario, stages: tuple[Outline, ...], seconds: Floats) -> float:
    """Return the seconds of a rank's whole optimizer step, part of it through host memory.

    It begins when the gradient norm is known and the rank has nothing else to do, so that how long copies,
    updates on the GPU and those of the host take together does not depend on what came before.

    Args:
        scenario: The request.
        stages: The stages that it holds.
        seconds: [RankSlot] Seconds of its parts.
    """
    offload = scenario.training.offload
    offloaded = OffloadedUpdate(
        on_host=offload.optimizer == "cpu",
        overlaps=offload.optimizer_overlap,
        buckets=(offload_buckets(scenario, rank_end(scenario, stages).parameters),),
    )
    program = update_program(offloaded, Slots(holdings=0, parts=0, ranks=1, pairs=(), messages=()))
    return compiled.run(program, Durations.of(seconds[program.work])).makespan_s
