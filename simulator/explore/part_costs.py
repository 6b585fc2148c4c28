"""What the parts of a step cost, stage kind by stage kind: the columns of ``templates``.

Everything here is looked up where a scenario with the same settings, as far as they matter, was asked about
before; see ``remembered``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from simulator.costs.collectives import leaves_domain
from simulator.costs.pass_contention import matrix_seconds
from simulator.costs.price import alone_s
from simulator.costs.system import System
from simulator.explore.bucket_costs import data_parallel_parts
from simulator.results.layer_times import block_seconds
from simulator.scenario.remembered import remembered
from simulator.workload.messages import message
from simulator.workload.op_kind import OpKind
from simulator.workload.passes import block_of, pass_bytes
from simulator.workload.stages import stage_works
from simulator.workload.work import StepOverhead

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.scenario import Scenario
    from simulator.workload.program import Floats
    from simulator.workload.stages import LayerSettings, LayerWork, StageKind
    from simulator.workload.work import Block, Transfer

PASSES = (OpKind.FORWARD, OpKind.BACKWARD, OpKind.BACKWARD_INPUT, OpKind.BACKWARD_WEIGHT)
"""Kinds of passes, in the order of the columns."""
SECONDS, MATRIX_SECONDS, ALLOCATED, FREED = range(4)
"""Rows of what is known of each part: seconds alone, those of matrix kernels, and bytes.

In place of the seconds of matrix kernels, tables by slot hold their share in a pass, and the share of the
multiprocessors that a collective takes.
"""


@remembered
def pass_costs(scenario: Scenario, kind: StageKind, settings: LayerSettings, parts: int) -> Floats:
    """Return what passes over a stage cost: rows as above, by ``PASSES``, and whole or bucket by bucket.

    Args:
        scenario: The request.
        kind: The stage.
        settings: Settings of its layers.
        parts: Buckets to return; those that the stage does not have cost nothing.
    """
    works = stage_works(scenario, kind, settings)
    seconds = {
        id(work): _work_seconds(scenario, work) for work in {id(work): work for work in works}.values()
    }
    bounds = [(part.first, part.end) for part in data_parallel_parts(scenario, kind)]
    costs = np.zeros((4, len(PASSES), 1 + parts))
    known: dict[tuple[int, ...], Floats] = {}
    for number, (first, end) in enumerate([(0, len(works)), *bounds]):
        mine = tuple(map(id, works[first:end]))
        if mine not in known:
            known[mine] = _run_costs(seconds, works[first:end])
        costs[:, :, number] = known[mine]
    return costs


def _run_costs(seconds: Mapping[int, Floats], works: tuple[LayerWork, ...]) -> Floats:
    """Return what passes over some layers cost, by ``PASSES``, given the seconds of each by its id."""
    costs = np.zeros((4, len(PASSES)))
    for identity, count in Counter(map(id, works)).items():
        costs[:2] += count * seconds[identity]
    splits = all(work.halves is not None for work in works)
    for number, which in enumerate(PASSES if splits else PASSES[:2]):
        costs[2:, number] = pass_bytes(which, works)
    if not splits:
        costs[:2, 2:] = 0.0
    return costs


def _work_seconds(scenario: Scenario, work: LayerWork) -> Floats:
    """Return the seconds of passes over a layer, and those of their matrix kernels, by ``PASSES``."""
    seconds = np.zeros((2, len(PASSES)))
    for number, which in enumerate(PASSES if work.halves is not None else PASSES[:2]):
        seconds[:, number] = _block_costs(scenario, block_of(which, work))
    return seconds


@remembered
def working_bytes(scenario: Scenario, kind: StageKind, settings: LayerSettings) -> float:
    """Return the largest transient of a stage's backward passes."""
    return max((work.working_bytes for work in stage_works(scenario, kind, settings)), default=0.0)


@remembered
def _block_costs(scenario: Scenario, block: Block) -> tuple[float, float]:
    if not block.program.num_ops:
        return 0.0, 0.0
    system = System.of(scenario)
    return block_seconds(block, system), matrix_seconds(block, system)


@remembered
def message_seconds(scenario: Scenario, pairs: tuple[tuple[int, int, bool], ...]) -> Floats:
    """Return the seconds of messages, by source, target and whether it is the receiver's part."""
    system = System.of(scenario)
    known: dict[tuple[int, bool, bool], float] = {}
    first: dict[int, Transfer] = {}
    seconds: list[float] = []
    for source, target, receives in pairs:
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
def overhead_seconds(scenario: Scenario) -> float:
    """Return the fixed part of a step."""
    return alone_s(StepOverhead(), System.of(scenario))
