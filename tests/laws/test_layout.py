"""The two layouts of a step agree op for op: passes appended one by one, and as columns.

Lives as long as there are two layouts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings

from simulator.workload.program import BlockSequence
from simulator.workload.step.build import build_step
from simulator.workload.step.ddp_and_zero import Bucketed

from .step_scenarios import scenarios

if TYPE_CHECKING:
    from collections.abc import Hashable

    from simulator.scenario import Scenario
    from simulator.workload.program import Block, Program, Work

COLUMNS = ("kind", "rank", "stream", "microbatch", "stage", "join", "allocated_bytes", "freed_bytes")


def one_by_one(scenario: Scenario) -> Program:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bucketed, "pieces", lambda _self: None)
        return build_step(scenario).program


def in_queues(program: Program) -> np.ndarray:
    """Return the ops by rank, stream and position in the stream: what identifies an op."""
    return np.lexsort((np.arange(program.num_ops), program.stream, program.rank))


def content(work: Work | Block) -> Hashable:
    """Return what equal pieces of work have in common; blocks are compared by their kernels."""
    if isinstance(work, BlockSequence):
        return work.name, work.share, tuple((block.name, id(block), count) for block, count in work.blocks)
    return work


def waits(program: Program, order: np.ndarray) -> set[tuple[int, int]]:
    """Return each dependency as the positions of both ops in an order."""
    position = np.argsort(order)
    ops = np.repeat(np.arange(program.num_ops), np.diff(program.dependency_start))
    return set(zip(position[program.dependency[: len(ops)]].tolist(), position[ops].tolist(), strict=True))


@settings(max_examples=400, deadline=None)
@given(scenarios(bucketed=True))
def test_passes_appended_at_once_are_those_appended_one_by_one(scenario: Scenario) -> None:
    fast, slow = build_step(scenario).program, one_by_one(scenario)
    assert fast.num_ops == slow.num_ops
    one, other = in_queues(fast), in_queues(slow)
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(fast, column)[one], getattr(slow, column)[other], column)
    works = [
        [content(program.works[work]) for work in program.work[order].tolist()]
        for program, order in ((fast, one), (slow, other))
    ]
    assert works[0] == works[1]
    assert waits(fast, one) == waits(slow, other)
