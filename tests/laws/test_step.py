"""Laws of a training step, over schedules and shapes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from factories import GPU, MODEL, NETWORK, SOFTWARE, make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.api import simulate
from simulator.durations.layers import sequence_seconds
from simulator.durations.price import System, price
from simulator.engines import event
from simulator.engines.durations import Durations
from simulator.results.memory import activation_peaks
from simulator.workload.program import OpKind, Stream
from simulator.workload.step.build import build_step

if TYPE_CHECKING:
    from simulator.scenario import Scenario

FAST = settings(max_examples=25, deadline=None)


@st.composite
def shapes(draw: st.DrawFn) -> Scenario:
    """Draw a scenario of any degrees that the 8-layer test model allows."""
    pp = draw(st.sampled_from([1, 2, 4]))
    vpp = draw(st.sampled_from([1, 2])) if pp > 1 else 1
    groups = draw(st.integers(1, 3))
    return make_scenario(
        tp=draw(st.sampled_from([1, 2, 8])),
        pp=pp,
        vpp=vpp,
        cp=draw(st.sampled_from([1, 2])),
        dp=draw(st.sampled_from([1, 2, 16])),
        microbatches=groups * pp if vpp > 1 else draw(st.integers(1, 6)),
        sharding=draw(st.sampled_from(["none", "zero1"])),
        recompute=draw(st.sampled_from(["none", "selective", "full"])),
        seq_length=2048,
    )


@FAST
@given(pp=st.integers(1, 8), vpp=st.integers(1, 4), groups=st.integers(1, 4), backward=st.floats(0.5, 4.0))
def test_bubble_is_the_closed_form_when_stages_are_equal_and_messages_free(
    pp: int, vpp: int, groups: int, backward: float
) -> None:
    """Narayanan et al., arXiv:2104.04473, section 2.2: bubble / ideal = (p - 1) / (v m)."""
    vpp = vpp if pp > 1 else 1
    microbatches = groups * pp
    model = replace(MODEL, num_hidden_layers=pp * vpp)
    step = build_step(make_scenario(model=model, pp=pp, vpp=vpp, microbatches=microbatches)).program
    seconds = np.select([step.kind == OpKind.FORWARD, step.kind == OpKind.BACKWARD], [1.0, backward], 0.0)
    timeline = event.run(step, Durations.of(seconds))
    ideal = microbatches * vpp * (1.0 + backward)
    assert timeline.makespan_s / ideal - 1 == pytest.approx((pp - 1) / (vpp * microbatches), abs=1e-9)


@FAST
@given(shapes())
def test_each_microbatch_goes_once_forward_and_once_backward_through_each_stage(scenario: Scenario) -> None:
    result = simulate(scenario)
    program, timeline = result.timeline.program, result.timeline
    stages = scenario.parallelism.pp * scenario.parallelism.vpp
    times: dict[tuple[int, int], list[float]] = {}
    for kind, pick in ((OpKind.FORWARD, timeline.end_s), (OpKind.BACKWARD, timeline.start_s)):
        seen: dict[tuple[int, int], list[float]] = {}
        for op in np.flatnonzero(program.kind == kind):
            seen.setdefault((int(program.stage[op]), int(program.microbatch[op])), []).append(float(pick[op]))
        assert set(seen) == {(s, m) for s in range(stages) for m in range(scenario.num_microbatches)}
        for key, values in seen.items():
            times.setdefault(key, []).append(max(values) if kind is OpKind.FORWARD else min(values))
    for (stage, microbatch), (forward_end, backward_start) in times.items():
        assert forward_end <= backward_start
        if stage:
            assert times[stage - 1, microbatch][0] <= forward_end


@FAST
@given(shapes())
def test_memory_returns_to_zero_and_time_adds_up(scenario: Scenario) -> None:
    result = simulate(scenario)
    peak, final = activation_peaks(result.timeline)
    assert np.all(np.abs(final) <= 1e-9 * peak)
    step_s = result.metrics["step_time_s"]
    assert math.isclose(math.fsum(result.breakdown.as_dict().values()), step_s, rel_tol=1e-12)
    assert all(value >= -1e-12 * step_s for value in result.breakdown.as_dict().values())
    for rank in range(scenario.parallelism.pp):
        ops = result.timeline.ops_of(rank, Stream.COMPUTE)
        assert np.sum(result.timeline.end_s[ops] - result.timeline.start_s[ops]) <= step_s * (1 + 1e-12)


@FAST
@given(shapes(), st.floats(1.0, 4.0), st.floats(1.0, 4.0))
def test_more_bandwidth_is_never_slower_without_contention(
    scenario: Scenario, scale_up: float, scale_out: float
) -> None:
    """One communication axis over the network at a time, so that no two messages share a NIC."""
    parallelism = scenario.parallelism
    if parallelism.pp > 1 and parallelism.dp * parallelism.cp > 1:
        scenario = make_scenario(tp=parallelism.tp, pp=parallelism.pp, microbatches=4)
    gpu = replace(GPU, scale_up_bytes_per_s=GPU.scale_up_bytes_per_s * scale_up)
    network = replace(NETWORK, bytes_per_s_per_gpu=NETWORK.bytes_per_s_per_gpu * scale_out)
    faster = replace(scenario, cluster=replace(scenario.cluster, gpu=gpu, network=network))
    assert simulate(faster).metrics["step_time_s"] <= simulate(scenario).metrics["step_time_s"] * (1 + 1e-9)


@FAST
@given(shapes(), st.floats(0.1, 10.0))
def test_scaling_all_durations_scales_the_step(scenario: Scenario, factor: float) -> None:
    step = build_step(scenario)
    system = System(cluster=scenario.cluster, software=scenario.software)
    seconds = sequence_seconds(step.program, system)
    durations = price(step.program, system, seconds)
    once, scaled = event.run(step.program, durations), event.run(step.program, durations.scaled(factor))
    assert scaled.makespan_s == pytest.approx(factor * once.makespan_s, rel=1e-9)


@FAST
@given(shapes())
def test_the_same_scenario_gives_the_same_bytes(scenario: Scenario) -> None:
    first, second = (json.dumps(simulate(scenario).to_dict()) for _ in range(2))
    assert first == second


@FAST
@given(shapes())
def test_recomputing_costs_time_and_saves_memory(scenario: Scenario) -> None:
    none, full = (
        simulate(replace(scenario, training=replace(scenario.training, recompute=recompute)))
        for recompute in ("none", "full")
    )
    # Equal where the step waits for gradients all the time, and recomputation hides behind them.
    assert full.metrics["step_time_s"] >= none.metrics["step_time_s"]
    assert full.breakdown.compute > none.breakdown.compute
    assert full.memory.worst.activations < none.memory.worst.activations
    assert full.metrics["hfu"] > full.metrics["mfu"]


@FAST
@given(launch_us=st.floats(0.0, 50.0))
def test_a_host_that_waits_for_every_kernel_adds_its_launches(launch_us: float) -> None:
    """Launches and kernels take turns: nothing of either hides the other."""
    free = simulate(make_scenario()).metrics["step_time_s"]
    software = replace(SOFTWARE, kernel_launch_s=launch_us * 1e-6)
    behind = simulate(make_scenario(software=software)).metrics["step_time_s"]
    turns = simulate(make_scenario(software=replace(software, blocks_launches=True))).metrics["step_time_s"]
    one = simulate(make_scenario(software=replace(SOFTWARE, kernel_launch_s=1.0, blocks_launches=True)))
    host_s = (one.metrics["step_time_s"] - free) * launch_us * 1e-6
    assert turns == pytest.approx(free + host_s)
    assert free <= behind <= turns
