"""Steps on GPUs that differ: without noise the usual step, with it what order statistics say."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from factories import MODEL, make_scenario
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from laws.step_scenarios import scenarios

from simulator import api
from simulator.cli import main
from simulator.errors import InputError
from simulator.explore.execute import Backend
from simulator.explore.montecarlo import monte_carlo
from simulator.explore.montecarlo.cells import cell_of, slowest_of_cells
from simulator.explore.montecarlo.fleet import Fleet
from simulator.explore.montecarlo.template import slowest_of
from simulator.scenario import Experts
from simulator.scenario.noise import Noise, Straggler

if TYPE_CHECKING:
    from pathlib import Path

    from simulator.scenario import Scenario

ALIKE = Noise(speed_spread=0.0)


def spread_by(scenario: Scenario, spread: float) -> Scenario:
    gpu = replace(scenario.cluster.gpu, speed_spread=spread)
    return replace(scenario, cluster=replace(scenario.cluster, gpu=gpu))


def job(**noise: Any) -> Scenario:  # noqa: ANN401  fields of Noise
    scenario = make_scenario(pp=2, dp=4, tp=2, microbatches=4, sharding="zero1")
    return spread_by(replace(scenario, noise=replace(ALIKE, **noise), seed=7), 0.0)


@settings(max_examples=30, deadline=None)
@given(scenarios())
def test_without_noise_every_step_is_that_of_run(scenario: Scenario) -> None:
    """Also where transfers share links, and steps have no barrier between them."""
    assume(not scenario.cluster.pools)
    scenario = spread_by(replace(scenario, noise=ALIKE), 0.0)
    expected = api.simulate(scenario).metrics["step_time_s"]
    found = monte_carlo(scenario, steps=2)
    assert found.quiet_s == pytest.approx(expected, rel=1e-9)
    assert found.step_times_s == pytest.approx([expected] * 2, rel=1e-9)
    assert found.stragglers == ()


def test_run_counts_the_slowest_of_all_gpus_and_each_step_those_it_drew() -> None:
    """Run's step has every GPU as slow as the slowest; one of mean GPUs is that of run without a spread."""
    scenario = spread_by(job(), 0.02)
    found = monte_carlo(scenario, steps=1)
    assert found.quiet_s == pytest.approx(api.simulate(scenario).metrics["step_time_s"], rel=1e-9)
    assert found.mean_s == pytest.approx(monte_carlo(job(), steps=1).mean_s, rel=1e-2)
    drawn = monte_carlo(replace(scenario, noise=Noise()), steps=1)
    assert found.mean_s < drawn.mean_s < 1.02 * found.quiet_s


@pytest.mark.parametrize(
    "noise",
    [
        {"kernel_jitter": 0.05},
        {"speed_spread": 0.03},
        {"stragglers": (Straggler(gpus=(3,), slowdown=1.3),)},
        {"stragglers": (Straggler(count=1, slowdown=1.3),)},
        {"stragglers": (Straggler(gpus=(3,), bandwidth=0.1),)},
    ],
    ids=str,
)
def test_every_noise_makes_steps_longer_and_the_seed_decides(noise: dict[str, Any]) -> None:
    quiet, scenario = monte_carlo(job(), steps=1).mean_s, job(**noise)
    found = monte_carlo(scenario, steps=10)
    assert found.mean_s > quiet
    assert np.array_equal(found.step_times_s, monte_carlo(scenario, steps=10).step_times_s)
    if noise.keys() & {"kernel_jitter", "speed_spread"}:
        assert monte_carlo(replace(scenario, seed=8), steps=10).mean_s != found.mean_s


def test_more_processes_say_the_same_to_the_last_bit() -> None:
    scenario = job(kernel_jitter=0.05, stragglers=(Straggler(gpus=(3,), slowdown=1.3),))
    serial, shared = (monte_carlo(scenario, steps=23, backend=Backend(jobs=jobs)) for jobs in (1, 2))
    assert json.dumps(serial.to_dict()) == json.dumps(shared.to_dict())


def test_busy_experts_make_steps_longer() -> None:
    experts = Experts(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=1024)
    scenario = make_scenario(model=replace(MODEL, experts=experts), dp=4, ep=4, microbatches=2)
    quiet = monte_carlo(replace(scenario, noise=ALIKE), steps=1).mean_s
    busy = monte_carlo(replace(scenario, noise=replace(ALIKE, expert_imbalance=0.5)), steps=20)
    assert quiet < busy.mean_s < 1.5 * quiet


def test_the_slow_gpu_is_found_and_costs_what_it_slows() -> None:
    """All compute of one pipeline rank of one replica 1.5 times as long; the step is at most that longer."""
    scenario = job(stragglers=(Straggler(gpus=(5,), slowdown=1.5),))
    found = monte_carlo(scenario, steps=2)
    (cost,) = found.stragglers
    assert (cost.gpu, cost.slowdown) == (5, 1.5)
    assert cost.cost_s == pytest.approx(found.mean_s - found.quiet_s, rel=1e-9)
    assert 1.0 < found.mean_s / found.quiet_s <= 1.5


def test_of_many_stragglers_the_worst_are_judged_and_the_others_counted() -> None:
    """Twenty slow GPUs of forty: the mildest four are left out, and the result says so."""
    scenario = make_scenario(pp=2, dp=20, microbatches=2)
    slow = tuple(Straggler(gpus=(gpu,), slowdown=1.2 + 0.01 * gpu) for gpu in range(20))
    found = monte_carlo(replace(scenario, noise=replace(ALIKE, stragglers=slow)), steps=1)
    assert {cost.gpu for cost in found.stragglers} == set(range(4, 20))
    assert found.left_out == found.to_dict()["stragglers_left_out"] == 4


@settings(max_examples=30, deadline=None)
@given(slowdown=st.floats(1.0, 3.0), gpu=st.integers(0, 15), more=st.floats(1.0, 2.0))
def test_a_slower_gpu_is_never_better(slowdown: float, gpu: int, more: float) -> None:
    steps = [
        monte_carlo(job(stragglers=(Straggler(gpus=(gpu,), slowdown=factor),)), steps=1).mean_s
        for factor in (slowdown, slowdown * more)
    ]
    assert steps[0] <= steps[1] * (1 + 1e-12)


@pytest.mark.parametrize("count", [1, 2, 8, 64])
def test_slowest_of_many_is_as_order_statistics_say(count: int) -> None:
    drawn = np.random.default_rng(0).standard_normal((20_000, count)).max(axis=1)
    mean, deviation = slowest_of(count)
    assert mean == pytest.approx(drawn.mean(), abs=0.03)
    assert deviation == pytest.approx(drawn.std(), rel=0.05)


def test_cells_hold_their_gpus_and_the_slowest_sets_the_pace() -> None:
    layout = job().parallelism
    pp, dp = cell_of(layout, np.arange(16))
    assert np.array_equal(np.bincount(pp * 4 + dp), np.full(8, 2))
    factors = np.ones(16)
    factors[5] = 2.0
    assert slowest_of_cells(layout, factors)[pp[5], dp[5]] == 2.0
    assert slowest_of_cells(layout, factors).sum() == 9.0


def test_drawn_gpus_have_the_spread_that_is_asked_for() -> None:
    scenario = make_scenario(dp=4096)
    fleet = Fleet.draw(scenario.parallelism, Noise(speed_spread=0.02), 0.0, scenario.seed)
    assert (1.0 / fleet.spread).std() == pytest.approx(0.02, rel=0.1)
    assert (1.0 / fleet.spread).mean() == pytest.approx(1.0, abs=0.002)


SCENARIO = """
name: noisy
cluster: {gpu: h100-80gb-sxm, gpus: 8}
model: llama3-8b
parallelism: {tp: 2, pp: 2}
training: {seq_length: 8192, micro_batch_size: 1, global_batch_size: 8, precision: bf16}
simulation:
  seed: 3
  noise: {kernel_jitter: 0.03, stragglers: [{gpus: [6], slowdown: 1.4}]}
"""


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "noisy.yaml"
    path.write_text(SCENARIO)
    figure = tmp_path / "steps.png"
    assert main(["montecarlo", str(path), "--steps", "5", "--plot", str(figure)]) == 0
    assert "single GPUs cost" in capsys.readouterr().out
    assert figure.stat().st_size > 10_000
    assert main(["montecarlo", str(path), "--steps", "5", "--json"]) == 0
    serial = capsys.readouterr().out
    found = json.loads(serial)
    assert main(["montecarlo", str(path), "--steps", "5", "--json", "--jobs", "2"]) == 0
    assert capsys.readouterr().out == serial
    assert len(found["step_times_s"]) == 5
    assert found["stragglers"][0]["gpu"] == 6
    assert main(["run", str(path)]) == 0
    assert "simulation.noise has no effect" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("{gpus: [8], slowdown: 2}", "no GPU 8; ranks go from 0 to 7"),
        ("{count: 9}", "at most 8"),
        ("{slowdown: 2}", "count: 1"),
        ("{gpus: [1], slowdown: 0.5}", "stragglers[0].slowdown: must be at least 1.0"),
    ],
)
def test_wrong_noise_says_what_is_right(
    wrong: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "noisy.yaml"
    path.write_text(SCENARIO.replace("{gpus: [6], slowdown: 1.4}", wrong))
    assert main(["montecarlo", str(path)]) == 2
    assert words in capsys.readouterr().err


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        monte_carlo(job(), steps=0)
