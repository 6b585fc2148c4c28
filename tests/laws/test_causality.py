"""Who waits for whom in a training step: every dependency that its reason demands, and none besides.

A law says that one op precedes another: not that the one lists the other, but that no order in which the
program can run has it otherwise (dependencies, order of streams, joins). What is expected of a step stands in
``step_oracle``; each test also asserts that its streams run exactly the ops of the oracle.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from simulator.workload.program import OpKind
from simulator.workload.step.build import build_step

from .checked_step import PASSES, Checked, in_order
from .expected_ops import Law
from .step_scenarios import scenarios

if TYPE_CHECKING:
    from simulator.scenario import Scenario

WIDE = settings(max_examples=400, deadline=None)
FEW = settings(max_examples=120, deadline=None)
USUAL = settings(max_examples=200, deadline=None)


def check(scenario: Scenario, *laws: Law) -> None:
    checked = Checked(scenario)
    earlier = in_order(checked.program, checked.waits())
    for wait in checked.oracle.waits:
        if wait.law in laws:
            event(wait.law.name)
            before, after = checked.op[wait.before], checked.op[wait.after]
            assert earlier[after] >> before & 1, (
                f"{wait.law.value}: {checked.label(after)} must wait for {checked.label(before)}"
            )


@USUAL
@given(scenarios())
def test_a_pass_follows_the_passes_and_messages_whose_results_it_reads(scenario: Scenario) -> None:
    check(scenario, Law.NEIGHBOURS, Law.BACKWARD, Law.MESSAGES)


@USUAL
@given(st.booleans().flatmap(lambda one: scenarios(bucketed=one, overlapped=True)))
def test_a_message_follows_all_parts_of_a_pass_that_is_cut(scenario: Scenario) -> None:
    check(scenario, Law.NEIGHBOURS, Law.MESSAGES)


@FEW
@given(
    st.sampled_from(["none", "zero1", "zero2"]).flatmap(lambda kind: scenarios(sharding=kind, paired=True))
)
def test_what_follows_a_pass_of_a_pair_follows_both_passes(scenario: Scenario) -> None:
    check(scenario, *Law)


@USUAL
@given(st.sampled_from(["zero1", "zero2", "zero3"]).flatmap(lambda kind: scenarios(sharding=kind)))
def test_a_gather_precedes_the_parts_that_read_its_weights_and_looks_only_so_far_ahead(
    scenario: Scenario,
) -> None:
    check(scenario, Law.WEIGHTS, Law.PREFETCH)


@WIDE
@given(scenarios())
def test_a_reduction_follows_its_gradients_and_holds_up_the_next_pass_unless_overlapped(
    scenario: Scenario,
) -> None:
    check(scenario, Law.GRADIENTS, Law.BLOCKING)


@USUAL
@given(scenarios(vocabulary=True))
def test_passes_around_the_divided_output_layer_follow_its_exchanges(scenario: Scenario) -> None:
    check(scenario, Law.OUTPUT_LAYER)


@USUAL
@given(scenarios())
def test_norm_and_update_follow_all_gradients_and_the_step_ends_last(scenario: Scenario) -> None:
    check(scenario, Law.END, Law.HOST)


@WIDE
@given(scenarios())
def test_no_op_waits_without_a_law(scenario: Scenario) -> None:
    checked = Checked(scenario)
    actual = in_order(checked.program, checked.waits())
    expected = in_order(checked.program, checked.expected_waits())
    for op, (more, fewer) in enumerate(zip(actual, expected, strict=True)):
        needless = more & ~fewer
        assert not needless, (
            f"no law lets {checked.label(op)} wait for {checked.label(needless.bit_length() - 1)}"
        )
        assert more == fewer


@FEW
@given(scenarios())
def test_what_starts_together_on_several_ranks_is_one_collective(scenario: Scenario) -> None:
    checked = Checked(scenario)
    expected, actual = defaultdict(set), defaultdict(set)
    for number, one in enumerate(checked.oracle.ops):
        op = checked.op[number]
        if one.join:
            expected[one.join].add(op)
        if checked.program.join[op] >= 0:
            actual[int(checked.program.join[op])].add(op)
    assert sorted(map(sorted, expected.values())) == sorted(map(sorted, actual.values()))


@FEW
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


@USUAL
@given(scenarios(sharding="zero3"))
def test_a_part_follows_as_many_gathers_as_passes_over_its_layers_needed(scenario: Scenario) -> None:
    """Weights that were freed are gathered anew for each pass, whatever else is gathered between."""
    check_gathers_by_number(scenario)


@USUAL
@given(scenarios(sharding="zero3", paired=True))
def test_parts_of_passes_in_pairs_follow_as_many_gathers_as_they_need(scenario: Scenario) -> None:
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
    assert +needed == Counter({own: len(ops) for own, ops in gathers.items()})
