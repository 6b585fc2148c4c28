"""Evaluating many scenarios at once says what simulating them one by one says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from factories import GPU, make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.api import simulate
from simulator.explore.evaluate import evaluate

if TYPE_CHECKING:
    from simulator.scenario import Scenario


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    pp, vpp = draw(st.sampled_from([(1, 1), (2, 1), (4, 1), (2, 2), (4, 2)]))
    return make_scenario(
        tp=draw(st.sampled_from([1, 8])),
        pp=pp,
        vpp=vpp,
        dp=draw(st.sampled_from([1, 4])),
        microbatches=pp * draw(st.integers(1, 3)),
        sharding=draw(st.sampled_from(["none", "zero1", "zero2", "zero3"])),
        recompute=draw(st.sampled_from(["none", "full"])),
    )


def check_alike(given_scenarios: list[Scenario]) -> None:
    found = evaluate(given_scenarios)
    for number, scenario in enumerate(given_scenarios):
        result = simulate(replace(scenario, engine="compiled"))
        expected = (result.metrics["step_time_s"], result.metrics["tokens_per_s"], result.memory.peak_bytes)
        columns = (found.step_time_s, found.tokens_per_s, found.peak_memory_bytes)
        np.testing.assert_allclose([column[number] for column in columns], expected, rtol=1e-9)
        assert found.capacity_bytes[number] == result.memory.capacity_bytes
        assert found.fits[number] == result.memory.fits


@settings(max_examples=20, deadline=None)
@given(st.lists(scenarios(), max_size=4))
def test_evaluating_is_simulating(given_scenarios: list[Scenario]) -> None:
    check_alike(given_scenarios)


def test_a_scenario_with_a_problem_leaves_the_others_alone() -> None:
    good = make_scenario()
    bad = make_scenario(gpu=replace(GPU, peak_flop_per_s={"fp32": 67e12}))
    found = evaluate([bad, good])
    assert found.problems[0]
    assert not found.problems[1]
    assert np.isnan(found.step_time_s[0])
    assert not found.fits[0]
    check_alike([good])
