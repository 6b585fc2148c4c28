"""What data parallelism costs, stage kind by stage kind: collectives of buckets, and copies beside them.

A bucket is what gathers its weights, or reduces its gradients, in one message: some layers, or with fully
sharded weights a single one (FSDP's unit).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from simulator.costs.system import System
from simulator.durations.contention import held_multiprocessors
from simulator.durations.layers import block_seconds
from simulator.durations.price import alone_s
from simulator.scenario.remembered import remembered
from simulator.workload.parameters.buckets import bucket_collectives
from simulator.workload.parameters.model_states import ModelStates, sharded_gradient_bytes
from simulator.workload.step.fsdp import unit_copies
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.workload.parameters.counts import StageParameters
    from simulator.workload.parameters.stage_outline import StageOutline
    from simulator.workload.program import Floats, Ints
    from simulator.workload.step.fsdp import Copy
    from simulator.workload.work import Collective

WHICH = ("gathers", "reduces", "sums")
"""Collectives of a bucket, in the order of the columns: at most ``EACH`` of each."""
EACH = 2
COPIES = ("unshard_copy", "gathered parts", "gradient_copy", "gradient parts")
"""Copies of a bucket, in the order of the columns: two before its pass, two after it."""
Counts = tuple[int, ...]
"""How many there are of each of ``WHICH``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Starts:
    """The works of a stage with which its buckets begin; equal ones are one object."""

    works: Ints

    @staticmethod
    @lru_cache(maxsize=4096)
    def of(works: tuple[int, ...]) -> Starts:
        """Return the one object for some works."""
        return Starts(works=np.array(works))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BucketCosts:
    """What data parallelism costs a stage.

    Attributes:
        starts: Where its buckets begin.
        collectives: Seconds alone and share of the multiprocessors (rows), by bucket, ``WHICH`` and number as
            one column each; zero where there is none.
        copies: Seconds by bucket and ``COPIES``, likewise.
        counts: Collectives of each bucket.
        most: The most that any has.
        sharded_gradient_bytes: Bytes of its gradients, all shards together; zero where they are not sharded.
    """

    starts: Starts
    collectives: Floats
    copies: Floats
    counts: tuple[Counts, ...]
    most: Counts
    sharded_gradient_bytes: float


@remembered
def bucket_costs(scenario: Scenario, stage: StageOutline) -> BucketCosts:
    """Return what data parallelism costs a stage."""
    states = ModelStates.of(scenario)
    parts = states.parts(stage)
    places: dict[tuple[StageParameters, int], int] = {}
    alike = [places.setdefault((part.parameters, part.end - part.first), len(places)) for part in parts]
    costs = np.zeros((2, len(places), len(WHICH) * EACH))
    copies = np.zeros((len(places), len(COPIES)))
    counts = []
    for (parameters, length), place in places.items():
        made = bucket_collectives(parameters, length, states.sharding, states.sizes, states.buckets)
        works = (made.gathers, made.reduces, made.sums)
        costs[:, place] = _collective_costs(scenario, works)
        copies[place] = _copy_seconds(scenario, parameters.total)
        counts.append(tuple(map(len, works)))
    return BucketCosts(
        starts=Starts.of(tuple(part.first for part in parts)),
        collectives=costs[:, alike].reshape(2, -1),
        copies=copies[alike].reshape(-1),
        counts=tuple(counts[place] for place in alike),
        most=tuple(map(max, zip(*counts, strict=True))),
        sharded_gradient_bytes=sharded_gradient_bytes(
            states.local, states.sharding, states.sizes.gradient, stage
        ),
    )


def _collective_costs(scenario: Scenario, works: Sequence[Sequence[Collective]]) -> Floats:
    """Return the columns of a bucket's collectives."""
    costs = np.zeros((2, len(WHICH) * EACH))
    for which, number in ((which, number) for which, each in enumerate(works) for number in range(len(each))):
        costs[:, which * EACH + number] = _collective_cost(scenario, works[which][number])
    return costs


@remembered
def _collective_cost(scenario: Scenario, work: Collective) -> tuple[float, float]:
    """Return the seconds of a collective over data-parallel ranks, and its share of the multiprocessors."""
    system = System.of(scenario)
    share = held_multiprocessors(work, system) / system.cluster.gpu.multiprocessors
    return alone_s(work, system), min(1.0, share)


def _copy_seconds(scenario: Scenario, parameters: float) -> Floats:
    """Return the seconds of a bucket's copies by ``COPIES``."""
    seconds = np.zeros(len(COPIES))
    if scenario.parallelism.sharding == "zero3":
        system, copies = System.of(scenario), unit_copies(scenario, parameters)
        for copy in (*copies.gathered, *copies.reduced):
            seconds[COPIES.index(copy.name)] = _one_copy_s(copy, system)
    return seconds


def _one_copy_s(copy: Copy, system: System) -> float:
    if isinstance(copy, Elementwise):
        return alone_s(copy, system)
    return sum(count * block_seconds(block, system) for block, count in copy.blocks)
