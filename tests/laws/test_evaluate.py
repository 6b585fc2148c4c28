"""Evaluating many scenarios at once says what simulating them one by one says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from factories import GPU, MODEL, SOFTWARE, make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.api import simulate
from simulator.batch.evaluate import evaluate
from simulator.scenario import Experts, Offload, Overlap
from simulator.schedules import SCHEDULES, Request

if TYPE_CHECKING:
    from simulator.scenario import Scenario


MIXTURE = Experts(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=4096, first_k_dense_replace=1)
"""After a dense layer."""
MODELS = (MODEL, replace(MODEL, tie_word_embeddings=True), replace(MODEL, experts=MIXTURE))


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    pp, vpp = draw(st.sampled_from([(1, 1), (2, 1), (4, 1), (2, 2), (4, 2)]))
    overlaps = draw(st.sampled_from([True, False]))
    sharding = draw(st.sampled_from(["none", "zero1", "zero2", "zero3"]))
    microbatches = pp * draw(st.integers(1, 3))
    request = Request(pp=pp, vpp=vpp, num_microbatches=microbatches)
    names = [name for name, each in SCHEDULES.items() if each.takes_chunks(vpp) and each.fits(request)]
    scenario = make_scenario(
        model=draw(st.sampled_from(MODELS)),
        tp=draw(st.sampled_from([1, 8])),
        pp=pp,
        vpp=vpp,
        dp=draw(st.sampled_from([1, 4])),
        microbatches=microbatches,
        sharding=sharding,
        shard_size=None if sharding == "none" else draw(st.sampled_from([None, 1])),
        recompute=draw(st.sampled_from(["none", "selective", "full"])),
        overlap=Overlap(grad_reduce=overlaps, param_gather=overlaps, p2p=draw(st.booleans()), tp=overlaps),
        software=replace(
            SOFTWARE,
            bucket_bytes=draw(st.sampled_from([1e8, 3e9])),
            collective_multiprocessors=draw(st.sampled_from([0, 20])),
            unshard_copies=draw(st.booleans()),
            gathers_tensor_by_tensor=draw(st.booleans()),
        ),
        reduce_every_microbatch=draw(st.booleans()),
    )
    parallelism = replace(scenario.parallelism, schedule=draw(st.sampled_from(sorted(names))))
    offload = Offload(
        optimizer=draw(st.sampled_from(["none", "stream", "cpu"])),
        optimizer_fraction=draw(st.sampled_from([0.5, 1.0])),
        optimizer_overlap=draw(st.booleans()),
    )
    parallelism = replace(
        parallelism, reshard_after_forward=draw(st.booleans()), prefetch=draw(st.integers(0, 2))
    )
    return replace(scenario, parallelism=parallelism, training=replace(scenario.training, offload=offload))


def check_alike(given_scenarios: list[Scenario]) -> None:
    found = evaluate(given_scenarios)
    for number, scenario in enumerate(given_scenarios):
        result = simulate(replace(scenario, engine="compiled"))
        expected = (result.metrics["step_time_s"], result.metrics["tokens_per_s"], result.memory.peak_bytes)
        columns = (found.step_time_s, found.tokens_per_s, found.peak_memory_bytes)
        np.testing.assert_allclose([column[number] for column in columns], expected, rtol=1e-9)
        assert found.capacity_bytes[number] == result.memory.capacity_bytes
        assert found.fits[number] == result.memory.fits


@settings(max_examples=60, deadline=None)
@given(st.lists(scenarios(), min_size=1, max_size=4))
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
