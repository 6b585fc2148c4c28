"""A step beside its oracle, and what its ops wait for in the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from simulator.workload.program import BlockSequence, OpKind, Stream
from simulator.workload.step.build import build_step
from simulator.workload.work import Collective, Transfer

from .step_oracle import Oracle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.scenario import Scenario
    from simulator.workload.program import Program, Work
    from simulator.workload.step.stages import Stage

    from .expected_ops import ExpectedOp

PASSES = (OpKind.FORWARD, OpKind.BACKWARD, OpKind.BACKWARD_INPUT, OpKind.BACKWARD_WEIGHT)


class Checked:
    """A step beside its oracle, op by op.

    Attributes:
        program: The step.
        oracle: What it should be.
        op: Op of the program for each op of the oracle.
    """

    def __init__(self, scenario: Scenario, *, match: bool = True) -> None:
        step = build_step(scenario)
        self.scenario, self.stages, self.program = scenario, step.stages, step.program
        # How many buckets the offloaded state is divided into is no matter of who waits for whom.
        stream = Stream.HOST if scenario.training.offload.optimizer == "cpu" else Stream.HOST_IN
        buckets = [len(self.program.queue(rank, stream)) for rank in range(self.program.num_ranks)]
        self.oracle = Oracle(scenario=scenario, stages=step.stages, host_buckets=buckets)
        self.op = self._matched() if match else []

    def _matched(self) -> list[int]:
        """Match ops by their position in their stream; ``same_op`` says whether they are the same."""
        queues = defaultdict(list)
        for number, expected in enumerate(self.oracle.ops):
            queues[expected.rank, expected.stream].append(number)
        op = [-1] * len(self.oracle.ops)
        for rank in range(self.program.num_ranks):
            for stream in Stream:
                actual = self.program.queue(rank, stream).tolist()
                for number, other in zip(queues[rank, stream], actual, strict=True):
                    self.same_op(self.oracle.ops[number], other)
                    op[number] = other
        assert sorted(op) == list(range(self.program.num_ops))
        return op

    def same_op(self, expected: ExpectedOp, op: int) -> None:
        program = self.program
        actual = OpKind(program.kind[op]), int(program.stage[op]), int(program.microbatch[op])
        assert actual == (expected.kind, expected.stage, expected.microbatch), program.label(op)
        work = program.works[program.work[op]]
        if expected.kind in PASSES:
            assert isinstance(work, BlockSequence)
            if "overlapped" not in work.name:
                layers = blocks(expected, self.stages[expected.stage])
                run = [block for block, count in work.blocks for _ in range(count)]
                assert [each.program.content() for each in run] == [each.program.content() for each in layers]
        else:
            assert same_work(expected.work, work), (expected, work)

    def label(self, op: int) -> str:
        program = self.program
        stream = Stream(program.stream[op]).name.lower()
        return f"{program.label(op)} (op {op}, rank {program.rank[op]}, {stream})"

    def expected_waits(self) -> list[tuple[int, int]]:
        return [(self.op[wait.before], self.op[wait.after]) for wait in self.oracle.waits]

    def waits(self) -> list[tuple[int, int]]:
        program = self.program
        return [(int(one), op) for op in range(program.num_ops) for one in program.dependencies(op)]


def blocks(expected: ExpectedOp, stage: Stage) -> list[object]:
    """Return the blocks of a part of a pass in the order in which they run, without those of no kernels."""
    works = [stage.works[unit] for unit in expected.work]
    made = [
        {
            OpKind.FORWARD: work.forward,
            OpKind.BACKWARD: work.backward,
            OpKind.BACKWARD_INPUT: work.halves and work.halves.input,
            OpKind.BACKWARD_WEIGHT: work.halves and work.halves.weight,
        }[expected.kind]
        for work in works
    ]
    made = made if expected.kind is OpKind.FORWARD else made[::-1]
    return [block for block in made if block.program.num_ops]


def same_work(expected: tuple[object, ...], work: Work) -> bool:
    if isinstance(work, Transfer):
        return expected == ("message", work.source, work.target, work.receives)
    if isinstance(work, Collective):
        *rest, size = expected
        kind = f"{work.kind} x {work.messages}" if work.messages > 1 else work.kind
        same = rest == [kind, work.name, work.group.size]
        return same and (size is None or work.bytes == pytest.approx(size))
    return expected == (work.name,)


def in_order(program: Program, waits: Iterable[tuple[int, int]]) -> list[int]:
    """Return for each op, as a set of bits, all ops that end before it starts, and those that start with it.

    Raises:
        AssertionError: Some ops wait for each other for ever.
    """
    first_of_join: dict[int, int] = {}
    node = [
        op if join < 0 else first_of_join.setdefault(join, op)
        for op, join in enumerate(program.join.tolist())
    ]
    queues = [program.queue(rank, stream).tolist() for rank in range(program.num_ranks) for stream in Stream]
    edges = {*waits, *(pair for queue in queues for pair in pairwise(queue))}
    following, count = defaultdict(list), Counter()
    for before, after in edges:
        following[node[before]].append(node[after])
        count[node[after]] += 1
    bits = [0] * program.num_ops
    for op, own in enumerate(node):
        bits[own] |= 1 << op
    ready = [op for op in set(node) if not count[op]]
    done = 0
    while ready:
        one = ready.pop()
        done += 1
        for other in following[one]:
            bits[other] |= bits[one]
            count[other] -= 1
            if not count[other]:
                ready.append(other)
    assert done == len(set(node)), "some ops wait for each other for ever"
    return [bits[own] for own in node]
