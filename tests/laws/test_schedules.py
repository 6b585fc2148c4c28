"""Laws of pipeline schedules, over every registered one and every shape that it runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from factories import MODEL, make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.api import simulate
from simulator.explore.schedule_timeline import schedule_timeline
from simulator.results.memory import activation_peaks
from simulator.schedules import SCHEDULES, Request, StageTimes, passes
from simulator.schedules.chains import faults
from simulator.schedules.csv_form import read_rows, write_rows
from simulator.schedules.op_kind import OpKind
from simulator.schedules.with_vocabulary import S, T, with_vocabulary, without_vocabulary
from simulator.workload.pipeline import held_stages
from simulator.workload.program import Stream

FAST = settings(max_examples=25, deadline=None)
SLOW = settings(max_examples=8, deadline=None)
PASSES = st.floats(0.2, 3.0)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, Request]:
    """Draw a schedule and a pipeline that it runs, with stages of any length."""
    name = draw(st.sampled_from(sorted(SCHEDULES)))
    schedule = SCHEDULES[name]
    fewest, most = schedule.chunks
    vpp = draw(st.integers(fewest, 3 if most is None else most))
    pp = draw(st.integers(1 if schedule.copies == 1 else 2, 6))
    shape = Request(pp=pp, vpp=vpp, num_microbatches=draw(st.integers(1, 18)))
    near = schedule.nearest_microbatches(pp, vpp, shape.num_microbatches, None)
    if not near:
        shape = replace(shape, pp=pp + 1)
        near = schedule.nearest_microbatches(pp + 1, vpp, shape.num_microbatches, None)
    kinds = [tuple(draw(PASSES) for _ in range(shape.stages)) for _ in range(3)]
    times = StageTimes(
        forward=kinds[0], backward_input=kinds[1], backward_weight=kinds[2], message=draw(st.floats(0, 0.5))
    )
    return name, replace(shape, num_microbatches=near[0], times=times)


@FAST
@given(requests())
def test_every_pass_runs_once_and_nothing_waits_for_ever(drawn: tuple[str, Request]) -> None:
    name, request = drawn
    schedule = SCHEDULES[name]
    order = schedule.order(request)
    assert not faults(order, request.stages, request.num_microbatches)
    splits = any(action.kind is OpKind.BACKWARD_INPUT for entries in order for action in passes(entries))
    assert splits <= schedule.splits_backward
    owners = [sum(stage in held for held in held_stages(order)) for stage in range(request.stages)]
    assert owners == [min(schedule.copies, request.pp)] * request.stages
    assert read_rows(write_rows(order)) == order
    timeline = schedule_timeline(order, request.stage_times())  # the engine runs it: no deadlock
    assert timeline.makespan_s >= sum(request.stage_times().forward)


@FAST
@given(requests())
def test_weight_gradients_follow_input_gradients_on_the_same_rank(drawn: tuple[str, Request]) -> None:
    name, request = drawn
    for entries in SCHEDULES[name].order(request):
        actions = list(passes(entries))
        place = {action: number for number, action in enumerate(actions)}
        for action, number in place.items():
            if action.kind is OpKind.BACKWARD_WEIGHT:
                assert place[action._replace(kind=OpKind.BACKWARD_INPUT)] < number
            if action.kind is OpKind.FORWARD:
                backward = [
                    place.get(action._replace(kind=kind)) for kind in (OpKind.BACKWARD, OpKind.BACKWARD_INPUT)
                ]
                assert [later for later in backward if later is not None and later > number]


def held_chunks(name: str, pp: int, microbatches: int) -> int:
    """Return the most chunks of micro-batches that a rank holds."""
    vpp = SCHEDULES[name].chunks[0]
    most = 0
    for entries in SCHEDULES[name].order(Request(pp=pp, vpp=vpp, num_microbatches=microbatches)):
        held = 0
        for action in passes(entries):
            held += (action.kind is OpKind.FORWARD) - (
                action.kind in {OpKind.BACKWARD, OpKind.BACKWARD_WEIGHT}
            )
            most = max(most, held)
    return most


@FAST
@given(
    pp=st.integers(1, 8),
    more=st.integers(0, 8),
    weights=PASSES,
    longer=st.floats(0, 2),
    longest=st.floats(0, 2),
)
def test_bubbles_of_zb_h1_and_1f1b_are_the_closed_forms(
    pp: int, more: int, weights: float, longer: float, longest: float
) -> None:
    """Qi et al., arXiv:2401.10241, table 1: (p - 1)(T_F + T_B + T_W) and (p - 1)(T_F + T_B - T_W)."""
    forward, inputs = weights + longer, weights + longer + longest  # the paper's case: T_W <= T_F <= T_B
    microbatches = 2 * pp + more
    times = StageTimes(
        forward=(forward,) * pp, backward_input=(inputs,) * pp, backward_weight=(weights,) * pp
    )
    request = Request(pp=pp, vpp=1, num_microbatches=microbatches, times=times)
    work = microbatches * (forward + inputs + weights)
    for name, sign in (("1f1b", 1), ("gpipe", 1), ("zb-h1", -1)):
        bubble = (pp - 1) * (forward + inputs + sign * weights)
        measured = schedule_timeline(SCHEDULES[name].order(request), times).makespan_s - work
        assert measured == pytest.approx(bubble, rel=1e-9, abs=1e-9), name


@FAST
@given(pp=st.integers(2, 12), more=st.integers(0, 10))
def test_equal_passes_leave_zb_v_and_zb_2p_only_the_way_in(pp: int, more: int) -> None:
    """No bubble but the p - 1 units until the last rank has work (arXiv:2401.10241, sections 2.2 and 6)."""
    microbatches = 2 * pp + more
    for name, vpp in (("zb-v", 2), ("zb-2p", 1)):
        request = Request(pp=pp, vpp=vpp, num_microbatches=microbatches)
        timeline = schedule_timeline(SCHEDULES[name].order(request), request.stage_times())
        assert timeline.makespan_s == pytest.approx(3 * vpp * microbatches + pp - 1)


@FAST
@given(pp=st.integers(2, 16), more=st.integers(0, 8))
def test_memory_of_v_schedules_is_a_half_and_a_third(pp: int, more: int) -> None:
    """Qi et al., arXiv:2405.15362, section 3: of the 2p chunks that 1F1B holds; the rest is of fixed size."""
    microbatches = 2 * pp + more
    assert held_chunks("zb-v", pp, microbatches) == 2 * pp
    assert pp <= held_chunks("v-half", pp, microbatches) <= pp + 4
    assert 2 * pp / 3 <= held_chunks("v-min", pp, microbatches) <= 2 * pp / 3 + 4
    assert held_chunks("1f1b", pp, microbatches) == pp


@FAST
@given(half=st.integers(1, 5), more=st.integers(0, 6))
def test_dualpipe_holds_one_micro_batch_more_than_1f1b(half: int, more: int) -> None:
    """deepseek-ai/DualPipe: PP + 1 micro-batches, whichever end of the pipeline."""
    pp = 2 * half
    assert held_chunks("dualpipe", pp, 2 * (pp + more)) == pp + 1
    assert held_chunks("dualpipe-v", half, 2 * half + more) == 2 * half + 1


@FAST
@given(requests(), st.sampled_from(["vocab-1", "vocab-2", "interlaced"]))
def test_a_divided_output_layer_runs_once_per_rank_and_micro_batch(
    drawn: tuple[str, Request], method: str
) -> None:
    name, request = drawn
    if name not in {"1f1b", "v-half", "v-min", "zb-v", "gpipe"} or (
        method == "interlaced" and name != "1f1b"
    ):
        name, request = "1f1b", replace(request, vpp=1, times=None)
    order = with_vocabulary(SCHEDULES[name], request, method)  # type: ignore[arg-type]
    assert not faults(without_vocabulary(order), request.stages, request.num_microbatches)
    for rank, entries in enumerate(order):
        for kind in (S, T):
            mine = [action for action in entries if action[0] is kind]
            assert [action[2] for action in mine] == list(range(request.num_microbatches))
            assert {action[1] for action in mine} == {rank}
    plain = SCHEDULES[name].order(request)
    assert [len(entries) for entries in order] == [len(mine) + 2 * request.num_microbatches for mine in plain]


@SLOW
@given(
    requests(),
    st.sampled_from([1, 8]),
    st.sampled_from([1, 4]),
    st.sampled_from(["none", "zero1", "zero3"]),
    st.booleans(),
)
def test_a_step_gives_back_all_memory_and_adds_up(
    drawn: tuple[str, Request], tp: int, dp: int, sharding: str, overlaps: bool
) -> None:
    name, request = drawn
    model = replace(MODEL, num_hidden_layers=max(2, request.stages))
    scenario = make_scenario(
        model=model,
        pp=request.pp,
        vpp=request.vpp,
        tp=tp,
        dp=dp,
        microbatches=request.num_microbatches,
        sharding=sharding,
        seq_length=1024,
    )
    overlap = replace(scenario.training.overlap, p2p=overlaps)
    scenario = replace(
        scenario,
        parallelism=replace(scenario.parallelism, schedule=name),
        training=replace(scenario.training, overlap=overlap, post_validation=SCHEDULES[name].post_validates),
    )
    result = simulate(scenario)
    peak, final = activation_peaks(result.timeline)
    assert np.all(np.abs(final) <= 1e-9 * peak.max())
    program = result.timeline.program
    halves = [
        {
            (int(program.rank[op]), int(program.stage[op]), int(program.microbatch[op]))
            for op in np.flatnonzero(program.kind == kind)
        }
        for kind in (OpKind.BACKWARD_INPUT, OpKind.BACKWARD_WEIGHT)
    ]
    assert halves[0] == halves[1]
    step_s = result.metrics["step_time_s"]
    assert sum(result.breakdown.as_dict().values()) == pytest.approx(step_s)
    for rank in range(request.pp):
        ops = result.timeline.ops_of(rank, Stream.COMPUTE)
        assert np.sum(result.timeline.end_s[ops] - result.timeline.start_s[ops]) <= step_s * (1 + 1e-9)


@pytest.mark.parametrize("method", ["vocab-1", "vocab-2", "interlaced"])
def test_vocabulary_parallelism_spreads_work_and_memory(method: str) -> None:
    """With a large vocabulary the step is faster and the fullest rank holds less (arXiv:2411.05288)."""
    model = replace(MODEL, num_hidden_layers=16, vocab_size=512_000)
    scenario = make_scenario(model=model, pp=8, microbatches=24, seq_length=2048)
    degrees = replace(scenario.parallelism, vocabulary=method)  # type: ignore[arg-type]
    one, all_ = simulate(scenario), simulate(replace(scenario, parallelism=degrees))
    assert all_.metrics["step_time_s"] < one.metrics["step_time_s"]
    assert all_.memory.worst.weights < one.memory.worst.weights
    peak, final = activation_peaks(all_.timeline)
    assert np.all(np.abs(final) <= 1e-9 * peak)
