"""What a step costs besides its passes and data-parallel collectives: messages, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from simulator.costs.collectives import lie_apart
from simulator.costs.system import System
from simulator.durations.price import alone_s, price
from simulator.engines import compiled
from simulator.scenario.remembered import remembered
from simulator.workload.grid import Mesh
from simulator.workload.parameters.bytes import ParameterBytes
from simulator.workload.parameters.counts import LocalParameters
from simulator.workload.parameters.model_states import ModelStates, held_memory
from simulator.workload.parameters.optimizer_offload import append_offloaded_update
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.step.end import norm_work, rank_end
from simulator.workload.step.messages import message, message_bytes_of
from simulator.workload.step.shared_parameters import rank_pair, tied_work
from simulator.workload.work import StepOverhead

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.parameters.stage_outline import StageOutline
    from simulator.workload.program import Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """Messages of a step by source, target and whether it is the receiver's part; equal ones: one object."""

    pairs: tuple[tuple[int, int, bool], ...]

    @staticmethod
    @lru_cache(maxsize=4096)
    def of(pairs: tuple[tuple[int, int, bool], ...]) -> Pairs:
        """Return the one object for some messages."""
        return Pairs(pairs=pairs)


@remembered
def message_seconds(scenario: Scenario, messages: Pairs) -> Floats:
    """Return the seconds of messages."""
    system = System.of(scenario)
    known: dict[tuple[int, bool, bool], float] = {}
    seconds: list[float] = []
    apart, size = Mesh.of(scenario.parallelism).stride("pp"), message_bytes_of(scenario)
    for source, target, receives in messages.pairs:
        # Of where the two ranks lie it only matters whether the message leaves a domain.
        alike = (abs(target - source), receives, lie_apart(source, target, apart, system.cluster))
        if alike not in known:
            known[alike] = alone_s(message(size, apart, source, target, receives=receives), system)
        seconds.append(known[alike])
    return np.array(seconds)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankCosts:
    """What kinds of ranks take and hold besides their passes.

    Attributes:
        seconds: Seconds of the optimizer step, and of casts (rows), by kind of rank.
        held: Bytes that each (row) holds besides activations, by ``HELD``; of gradients without what passes
            add.
    """

    seconds: Floats
    held: tuple[tuple[float, ...], ...]


@remembered
def rank_costs(scenario: Scenario, ranks: tuple[tuple[StageOutline, ...], ...]) -> RankCosts:
    """Return what ranks cost, given their stages."""
    states, system = ModelStates.of(scenario), System.of(scenario)
    return RankCosts(
        seconds=np.array([_update_seconds(states, system, stages) for stages in ranks]).T,
        held=tuple(_held_terms(held_memory(states, stages)) for stages in ranks),
    )


HELD = ("framework", "weights", "gradients", "optimizer", "communication_buffers")
"""Terms of memory that do not depend on how layers run."""
_held_terms = attrgetter(*HELD)


def _update_seconds(
    states: ModelStates, system: System, stages: tuple[StageOutline, ...]
) -> tuple[float, float]:
    """Return the seconds of a rank's update, what passes through host memory included, and of its casts.

    The update begins when the gradient norm is known and the rank has nothing else to do, so that how long
    copies, updates on the GPU and those of the host take together does not depend on what came before.
    """
    end = rank_end(states, stages)
    casts_s = 0.0 if end.casts is None else alone_s(end.casts, system)
    if not states.offload.share:
        return 0.0 if end.update is None else alone_s(end.update, system), casts_s
    builder = ProgramBuilder(rank_names=("rank",))
    if end.update is not None:
        builder.add(OpKind.OPTIMIZER, 0, Stream.COMPUTE, end.update)
    append_offloaded_update(builder, 0, end.parameters, (), sizes=states.sizes, offload=states.offload)
    program = builder.build()
    return compiled.run(program, price(program, system)).makespan_s, casts_s


@remembered
def single_seconds(scenario: Scenario, first_rank: int, last_rank: int) -> tuple[float, float, float]:
    """Return the seconds of what a step has one of: see ``SINGLES``.

    Args:
        scenario: The request.
        first_rank: Rank of the first stage.
        last_rank: Rank of the last stage.
    """
    system = System.of(scenario)
    norm = norm_work(scenario.parallelism.gpus, post_validation=scenario.training.post_validation)
    tied_s = 0.0
    if scenario.model.tie_word_embeddings and first_rank != last_rank:
        pair = rank_pair(Mesh.of(scenario.parallelism).stride("pp"), first_rank, last_rank)
        table, sent = LocalParameters.of(scenario).table, ParameterBytes.of(scenario).reduced
        tied_s = alone_s(tied_work(table, sent, pair), system)
    return (
        0.0 if norm is None else alone_s(norm, system),
        tied_s,
        alone_s(StepOverhead(), system),
    )


SINGLES = ("gradient norm", "tied embedding gradients", "step overhead")
