"""The fit of training constants finds what made the data, and leaves alone what the data does not tell."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import api, load, validation
from simulator.calibration.training.constants import (
    CLOCK,
    STACK_QUANTITIES,
    Constant,
    applied,
    constants_of,
)
from simulator.calibration.training.document import constants_text, without_text
from simulator.calibration.training.fit import TrainingFit
from simulator.calibration.training.runs import Response, Run, held_out_runs, published_runs
from simulator.calibration.training.solve import Model, solve, weights
from simulator.documents import parse
from simulator.validation import PUBLISHED, read_rows
from simulator.validation.leave_one_out import fits_without, without_source

SCENARIO = Path(__file__).parent.parent / "scenarios" / "llama3-70b-512.yaml"
GATE = Path(__file__).parent / "data" / "published_gate.yaml"
GPUS = [Constant(CLOCK, name, "16-bit") for name in ("one", "two")]
STACKS = [Constant(STACK_QUANTITIES[2], name) for name in ("first", "second")]


@settings(deadline=None)
@given(truth=st.lists(st.floats(-0.1, 0.1), min_size=4, max_size=4), seed=st.integers(0, 99))
def test_linear_data_is_met_and_outliers_do_not_pull(truth: list[float], seed: int) -> None:
    """Errors made by known constants vanish at them; one run in 27 is far too fast and hardly counts."""
    rng = np.random.default_rng(seed)
    constants = [*GPUS, *STACKS]
    responses = []
    for number in range(400):
        clock, stack = GPUS[number % 2], STACKS[number // 2 % 2]
        slopes = {clock: float(rng.uniform(0.3, 0.9)), stack: -float(rng.uniform(0.1, 0.6))}
        error = -sum(slope * truth[constants.index(c)] for c, slope in slopes.items())
        responses.append(Response(error + (0.5 if number % 27 == 26 else 0.0), slopes))
    model = solve(Model.start(constants), responses, np.ones(400), limit=100.0).model
    for constant, moved in zip(constants, truth, strict=True):
        assert math.log(model.value(constant) / constant.quantity.typical) == pytest.approx(moved, abs=0.05)


def test_an_owner_without_runs_gets_what_all_share() -> None:
    seen, unseen = GPUS
    responses = [Response(0.1, {seen: 1.0})] * 50
    model = solve(Model.start([seen, unseen]), responses, np.ones(50), limit=100.0).model
    assert model.value(unseen) == model.typical_value(unseen)
    assert model.value(seen) < model.value(unseen) < CLOCK.typical


def test_sources_weigh_alike_whatever_their_size_but_not_quite() -> None:
    of_large, of_small = weights(["large"] * 100 + ["small"] * 4)[[0, -1]]
    assert 1.0 < of_small / of_large < 25.0
    assert of_large * 100 > of_small * 4


def test_slopes_are_those_of_the_simulator() -> None:
    """A run's error after a small move is what its slopes say; a faster clock is never slower."""
    row = validation.read_rows([GATE])[0]
    scenario, _ = validation.to_scenario(row.parsed())
    run = Run(row, scenario)
    values = {c: c.quantity.typical for c in constants_of(scenario)}
    found = run.response(values)
    assert found.log_error == pytest.approx(run.log_error(values))
    clock = next(c for c in values if c.quantity is CLOCK)
    moved = run.log_error({**values, clock: values[clock] * 1.01})
    assert moved - found.log_error == pytest.approx(found.slopes[clock] * math.log(1.01), rel=0.1)
    assert found.slopes[clock] > 0
    assert all(slope <= 1e-9 for constant, slope in found.slopes.items() if constant.quantity is not CLOCK)


def test_a_step_that_was_laid_out_before_takes_as_long() -> None:
    scenario = load(SCENARIO)
    step = api.timed_step(scenario)
    again = api.simulate(scenario, quick=True).metrics["step_time_s"]
    assert api.step_time_s(step, scenario) == pytest.approx(again, rel=1e-12)


def test_files_say_what_was_fitted() -> None:
    scenario = load(SCENARIO)
    constants = constants_of(scenario)
    model = replace(Model.start(constants), own={**dict.fromkeys(constants, 1e-4), constants[0]: 0.01})
    counts = dict.fromkeys(constants, 3)
    shares = dict.fromkeys(constants, 0.1)
    found = TrainingFit(
        model=model, uncertainty=shares, runs=counts, errors=shares, without={"somewhere": model.values}
    )
    data = parse(constants_text(found), "training.yaml").data
    assert isinstance(data, dict)
    gpu, stack = scenario.cluster.gpu.name, scenario.software.name
    assert data["gpus"][gpu]["bf16"]["value"] == pytest.approx(CLOCK.typical * math.exp(0.01), rel=0.01)
    assert data["stacks"][stack]["kernel_launch_s"]["value"] == pytest.approx(12e-6, rel=0.01)
    untouched = replace(model, own={**model.own, constants[-1]: 0.0})
    missing = parse(constants_text(replace(found, model=untouched)), "training.yaml").data
    assert isinstance(missing, dict)
    assert "step_overhead_s" not in missing["stacks"][stack]
    assert data["typical"]["bf16"]["value"] == pytest.approx(CLOCK.typical)
    left_out = parse(without_text(found), "leave_one_out.yaml").data
    assert isinstance(left_out, dict)
    assert left_out["somewhere"]["stacks"][stack].keys() == {q.field for q in STACK_QUANTITIES} - {
        "module_call_s"
    }


def test_what_only_few_stacks_state_is_typical_of_none() -> None:
    """Modules of Megatron-Bridge are slow to call; a stack that says nothing of it has no such cost."""
    scenario = load(SCENARIO, ["software=megatron-bridge"])
    constants = constants_of(scenario)
    model = replace(Model.start(constants), own=dict.fromkeys(constants, 0.1))
    every = dict.fromkeys(constants, 1)
    found = TrainingFit(model=model, uncertainty=every, runs=every, errors=every, without={})
    data = parse(constants_text(found), "training.yaml").data
    assert isinstance(data, dict)
    assert "module_call_s" in data["stacks"]["megatron-bridge"]
    assert "module_call_s" not in data["typical"]


def test_every_fitted_constant_changes_the_scenario_that_has_it() -> None:
    scenario = load(SCENARIO)
    values = {c: c.quantity.least for c in constants_of(scenario)}
    changed = applied(scenario, values)
    assert changed.software.kernel_launch_s == STACK_QUANTITIES[0].least
    assert set(changed.cluster.gpu.training_clock.values()) >= {CLOCK.least}
    assert without_source(scenario, "no such source") == scenario


def test_runs_that_are_held_out_exist_and_take_no_part_in_the_fit() -> None:
    held_out, rows = held_out_runs(), read_rows([PUBLISHED])
    assert held_out <= {name for row in rows for name in (row.source, row.id)}
    assert not held_out & {name for run in published_runs() for name in (run.row.source, run.row.id)}
    assert {row.source for row in rows} - held_out <= set(fits_without())
