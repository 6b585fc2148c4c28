"""What a step costs besides its passes and data-parallel collectives: messages, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from simulator.costs.collectives import leaves_domain
from simulator.costs.price import alone_s, price
from simulator.costs.system import System
from simulator.engines import compiled
from simulator.scenario.remembered import remembered
from simulator.workload.messages import message
from simulator.workload.optimizer_offload import append_offloaded_update, offloaded_share
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.stage_copies import tied_work
from simulator.workload.step_end import norm_work, rank_end
from simulator.workload.work import StepOverhead

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.program import Floats
    from simulator.workload.stages import StageKind
    from simulator.workload.work import Transfer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """Messages of a step by source, target and whether it is the receiver's part; equal ones are one object."""

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
    first: dict[int, Transfer] = {}
    seconds: list[float] = []
    for source, target, receives in messages.pairs:
        hops = abs(target - source)
        if hops not in first:
            first[hops] = message(scenario, source, target)
        work = replace(first[hops], source=source, target=target, receives=receives)
        # Of where the two ranks lie it only matters whether the message leaves a domain.
        alike = (hops, receives, leaves_domain(work, system.cluster))
        if alike not in known:
            known[alike] = alone_s(work, system)
        seconds.append(known[alike])
    return np.array(seconds)


@remembered
def update_seconds(scenario: Scenario, kinds: tuple[StageKind, ...]) -> tuple[float, float]:
    """Return the seconds of a rank's update, what passes through host memory included, and of its casts.

    The update begins when the gradient norm is known and the rank has nothing else to do, so that how long
    copies, updates on the GPU and those of the host take together does not depend on what came before.
    """
    system, end = System.of(scenario), rank_end(scenario, kinds)
    casts_s = 0.0 if end.casts is None else alone_s(end.casts, system)
    if not offloaded_share(scenario):
        return 0.0 if end.update is None else alone_s(end.update, system), casts_s
    builder = ProgramBuilder(rank_names=("rank",))
    if end.update is not None:
        builder.add(OpKind.OPTIMIZER, 0, Stream.COMPUTE, end.update)
    append_offloaded_update(scenario, builder, 0, end.parameters, ())
    program = builder.build()
    return compiled.run(program, price(program, system)).makespan_s, casts_s


@remembered
def norm_seconds(scenario: Scenario) -> float:
    """Return the seconds of the gradient norm's sum."""
    norm = norm_work(scenario)
    return 0.0 if norm is None else alone_s(norm, System.of(scenario))


@remembered
def tied_seconds(scenario: Scenario, first_rank: int, last_rank: int) -> float:
    """Return the seconds of summing the gradients of tied embeddings on two ranks."""
    if not scenario.model.tie_word_embeddings or first_rank == last_rank:
        return 0.0
    return alone_s(tied_work(scenario, first_rank, last_rank), System.of(scenario))


@remembered
def overhead_seconds(scenario: Scenario) -> float:
    """Return the fixed part of a step."""
    return alone_s(StepOverhead(), System.of(scenario))
