"""The compiled engine says what the event engine says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from factories import make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engines import compiled, event, fastest, jit, run_quick
from simulator.engines.durations import Durations
from simulator.engines.sharing import any_overlap, shares_links
from simulator.errors import DeadlockError, SimulationError
from simulator.workload.step.build import build_step

from .programs import build, durations, flows, op_lists, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.engines.timeline import Timeline
    from simulator.workload.program import Program

pytestmark = pytest.mark.usefixtures("loops")
few = settings(max_examples=40, deadline=None)
exact = {"rtol": 1e-9, "atol": 1e-9}


def check_alike(program: Program, given_durations: Durations) -> None:
    fast, slow = compiled.run(program, given_durations), event.run(program, given_durations)
    np.testing.assert_allclose(fast.start_s, slow.start_s, **exact)
    np.testing.assert_allclose(fast.end_s, slow.end_s, **exact)


@few
@given(st.data())
def test_engines_agree_op_by_op_without_contention(data: st.DataObject) -> None:
    ops = data.draw(op_lists())
    fixed = data.draw(seconds(len(ops)))
    program = build(ops)
    own_links = [[2 * (op.rank * 2 + op.stream)] for op in ops]
    check_alike(program, Durations.of(fixed))
    given_durations = durations(fixed.tolist(), [3.0] * len(ops), own_links, [7.0] * 16)
    assert not shares_links(program, given_durations)
    check_alike(program, given_durations)
    one, other = (
        fastest(program, given_durations)(program, given_durations),
        event.run(program, given_durations),
    )
    assert one.start_s.tobytes() == other.start_s.tobytes()
    assert one.end_s.tobytes() == other.end_s.tobytes()


@few
@given(st.data())
def test_contention_only_ever_delays_the_whole_and_where_no_flows_meet_engines_agree(
    data: st.DataObject,
) -> None:
    ops = data.draw(op_lists(max_steps=8))
    program, given_durations = build(ops), data.draw(flows(len(ops)))
    fast = compiled.run(program, given_durations)
    if not any_overlap(fast, given_durations):
        check_alike(program, given_durations)
    quick, slow = run_quick(program, given_durations), event.run(program, given_durations)
    np.testing.assert_allclose(quick.end_s, slow.end_s, **exact)
    assert slow.makespan_s >= fast.makespan_s * (1 - 1e-9)


@few
@given(st.data())
def test_a_batch_is_its_single_runs(data: st.DataObject) -> None:
    ops = data.draw(op_lists())
    program = build(ops)
    samples = np.array(
        data.draw(st.lists(seconds(len(ops)), min_size=0, max_size=5)), dtype=np.float64
    ).reshape(-1, len(ops))
    ends = compiled.run_batch(program, samples.T.copy())
    assert ends.T.shape == samples.shape
    for column, own in zip(ends.T, samples, strict=True):
        assert np.array_equal(column, compiled.run(program, Durations.of(own)).end_s)


@few
@given(st.data())
def test_both_engines_report_the_same_deadlock(data: st.DataObject) -> None:
    ops = data.draw(op_lists())
    early, late = sorted(data.draw(st.lists(st.integers(0, len(ops) - 1), min_size=2, max_size=2)))
    ops[early] = type(ops[early])(
        ops[early].rank, ops[early].stream, ops[early].join, (*ops[early].after, late)
    )
    program, fixed = build(ops), data.draw(seconds(len(ops)))
    expected = outcome(event.run, program, Durations.of(fixed))
    found = outcome(compiled.run, program, Durations.of(fixed))
    assert type(found) is type(expected)
    if isinstance(expected, str):
        assert found == expected
        with pytest.raises(DeadlockError, match=f"^{re.escape(expected)}$"):
            compiled.run_batch(program, np.array(fixed)[:, None])


def outcome(
    run: Callable[[Program, Durations], Timeline], program: Program, given_durations: Durations
) -> Timeline | str:
    try:
        return run(program, given_durations)
    except DeadlockError as error:
        return str(error)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_engines_agree_on_steps_of_every_shape(data: st.DataObject) -> None:
    pp, vpp = data.draw(st.sampled_from([(1, 1), (2, 1), (4, 1), (2, 2), (4, 2)]))
    scenario = make_scenario(
        tp=data.draw(st.sampled_from([1, 8])),
        pp=pp,
        vpp=vpp,
        dp=data.draw(st.sampled_from([1, 4])),
        microbatches=pp * data.draw(st.integers(1, 3)),
        sharding=data.draw(st.sampled_from(["none", "zero1", "zero2", "zero3"])),
        recompute=data.draw(st.sampled_from(["none", "full"])),
    )
    step = build_step(scenario)
    programs = [step.program]
    for stage in step.stages:
        programs += [block.program for work in stage.works for block in (work.forward, work.backward)]
    for program in programs:
        random = np.random.default_rng(data.draw(st.integers(0, 99)))
        check_alike(program, Durations.of(random.exponential(size=program.num_ops)))


def test_impossible_numbers_are_refused() -> None:
    program = build_step(make_scenario()).program
    own = np.zeros(program.num_ops)
    own[2] = np.nan
    with pytest.raises(SimulationError, match=r"op 2 .* nan seconds"):
        compiled.run(program, Durations.of(own))


def test_plain_loops_give_way_to_compiled_ones_once_these_have_paid_off(loops: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "_followed", [0])
        patch.setattr(jit, "ENOUGH", 100)
        patch.delitem(jit.sys.modules, "numba", raising=False)
        assert not jit.pays_off(60)
        if loops == "plain":
            assert not jit.pays_off(60)
