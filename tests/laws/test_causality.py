"""Who waits for whom in a training step: every dependency that its reason demands, and none besides.

A law says that one op precedes another: not that the one lists the other, but that no order in which the
program can run has it otherwise (dependencies, order of streams, joins).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, assume, event, given, settings

from simulator.workload.pipeline import runs_in_pairs
from simulator.workload.program import OpKind, Stream
from simulator.workload.step import build_step
from simulator.workload.work import Collective, Sequence, Transfer

from .step_oracle import Oracle
from .step_scenarios import scenarios

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.scenario import Scenario
    from simulator.workload.program import Program
    from simulator.workload.stages import Stage
    from simulator.workload.work import Work

    from .step_oracle import ExpectedOp

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
        self.oracle = Oracle(scenario, step.stages, buckets)
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
        found = OpKind(program.kind[op]), int(program.stage[op]), int(program.microbatch[op])
        assert (expected.kind, expected.stage, expected.microbatch) == found, program.label(op)
        work = program.works[program.work[op]]
        if expected.kind in PASSES:
            assert isinstance(work, Sequence)
            if "beside" not in work.name:
                layers = blocks(expected, self.stages[expected.stage])
                assert [block for block, count in work.blocks for _ in range(count)] == layers
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
    """Return the blocks of a part of a pass in the order in which they run, those without kernels left out."""
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
        same = rest == [work.kind, work.name, work.group.size]
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


def gathers_in_pairs(scenario: Scenario) -> bool:
    """Tell whether FSDP's gathers meet passes that run in pairs."""
    pairs = runs_in_pairs(scenario) or scenario.parallelism.schedule.startswith("dualpipe")
    return pairs and scenario.parallelism.sharding == "zero3"


@settings(max_examples=600, deadline=None)
@given(scenarios())
def test_an_op_waits_for_all_that_its_laws_name_and_for_nothing_else(scenario: Scenario) -> None:
    """The laws are those of ``step_oracle``."""
    assume(not gathers_in_pairs(scenario))
    checked = Checked(scenario)
    actual = in_order(checked.program, checked.waits())
    for wait in checked.oracle.waits:
        event(wait.law)
        before, after = checked.op[wait.before], checked.op[wait.after]
        assert actual[after] >> before & 1, (
            f"{wait.law}: {checked.label(after)} must wait for {checked.label(before)}"
        )
    expected = in_order(checked.program, checked.expected_waits())
    for op, (more, fewer) in enumerate(zip(actual, expected, strict=True)):
        needless = more & ~fewer
        assert not needless, (
            f"no law lets {checked.label(op)} wait for {checked.label(needless.bit_length() - 1)}"
        )


@settings(max_examples=100, deadline=None)
@given(scenarios())
def test_what_starts_together_on_several_ranks_is_one_collective(scenario: Scenario) -> None:
    assume(not gathers_in_pairs(scenario))
    checked = Checked(scenario)
    expected, actual = defaultdict(set), defaultdict(set)
    for number, one in enumerate(checked.oracle.ops):
        op = checked.op[number]
        if one.join:
            expected[one.join].add(op)
        if checked.program.join[op] >= 0:
            actual[int(checked.program.join[op])].add(op)
    assert sorted(map(sorted, expected.values())) == sorted(map(sorted, actual.values()))


@settings(max_examples=100, deadline=None)
@given(scenarios())
def test_every_stage_runs_each_microbatch_once_and_its_memory_comes_back(scenario: Scenario) -> None:
    step = build_step(scenario)
    program = step.program
    taken, freed, ranks = defaultdict(float), defaultdict(float), defaultdict(set)
    balance = [0.0] * program.num_ranks
    for op in range(program.num_ops):
        kind, stage = OpKind(program.kind[op]), int(program.stage[op])
        key = kind, stage, int(program.microbatch[op])
        balance[program.rank[op]] += program.allocated_bytes[op] - program.freed_bytes[op]
        if kind in PASSES:
            taken[key] += program.allocated_bytes[op]
            freed[key] += program.freed_bytes[op]
            ranks[key].add(int(program.rank[op]))
    assert all(len(holders) == 1 for holders in ranks.values())
    both = {(stage, microbatch) for _, stage, microbatch in ranks}
    assert both == {(s, m) for s in range(len(step.stages)) for m in range(scenario.num_microbatches)}
    for stage, microbatch in both:
        forward, whole, inputs, weights = ((kind, stage, microbatch) for kind in PASSES)
        assert forward in ranks
        assert (whole in ranks) != (inputs in ranks)
        assert (inputs in ranks) == (weights in ranks)
        saved = step.stages[stage].saved_bytes
        assert taken[forward] - freed[forward] == pytest.approx(saved)
        back = [key for key in (whole, inputs, weights) if key in ranks]
        assert sum(freed[key] - taken[key] for key in back) == pytest.approx(saved)
    largest = max(program.allocated_bytes.max(), 1.0)
    assert balance == pytest.approx([0.0] * program.num_ranks, abs=1e-6 * largest)


@settings(max_examples=200, deadline=None)
@given(scenarios(sharding="zero3"))
def test_a_part_follows_as_many_gathers_as_passes_over_its_layers_needed(scenario: Scenario) -> None:
    """Weights that were freed are gathered anew for each pass, whatever else is gathered between."""
    assume(not gathers_in_pairs(scenario))
    check_gathers_by_number(scenario)


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="a rank issues the gathers of a pair one pass after the other, but runs its parts side by side",
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(scenarios(sharding="zero3"))
def test_parts_of_passes_in_pairs_follow_as_many_gathers_as_they_need(scenario: Scenario) -> None:
    assume(gathers_in_pairs(scenario))
    check_gathers_by_number(scenario)


def check_gathers_by_number(scenario: Scenario) -> None:
    """Gathers say whose stage and micro-batch they serve, and those of the forward pass come first."""
    checked = Checked(scenario, match=False)
    program, oracle = checked.program, checked.oracle
    earlier = in_order(program, checked.waits())
    gathers, parts = defaultdict(list), defaultdict(list)
    for op in range(program.num_ops):
        stage, microbatch = int(program.stage[op]), int(program.microbatch[op])
        if getattr(program.works[program.work[op]], "name", "") == "param_gather":
            gathers[int(program.rank[op]), stage, microbatch].append(op)
        if program.kind[op] in PASSES:
            parts[program.kind[op], stage, microbatch].append(op)
    needed: Counter[tuple[int, int, int]] = Counter()
    for rank, actions in enumerate(oracle.passes):
        for action in actions:
            own = rank, action.stage, action.microbatch
            for part, op in zip(oracle.parts(rank, action), parts[action], strict=True):
                needed[own] += len(part.gathers.gathers) if part.gathers else 0
                before = sum(earlier[op] >> gather & 1 for gather in gathers[own])
                assert before >= needed[own], f"{checked.label(op)} runs before its weights are gathered"
    assert needed == {own: len(ops) for own, ops in gathers.items()} | {
        own: 0 for own in needed.keys() - gathers.keys()
    }
