"""Hardware and software are looked up by content: equal ones together, and those that differ apart."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from factories import GPU, MODEL, SOFTWARE, make_scenario
from hypothesis import given
from hypothesis import strategies as st

from laws.step_scenarios import scenarios
from simulator.costs.system import System

if TYPE_CHECKING:
    from simulator.scenario import Scenario


@given(scenarios())
def test_equal_parts_have_one_hash(scenario: Scenario) -> None:
    twin = deepcopy(scenario)
    for part, other in (
        (scenario.model, twin.model),
        (scenario.software, twin.software),
        (scenario.cluster.gpu, twin.cluster.gpu),
        (System.of(scenario), System.of(twin)),
    ):
        assert part is not other
        assert part == other
        assert hash(part) == hash(other)


def test_where_a_model_was_read_does_not_count() -> None:
    assert hash(replace(MODEL, source="elsewhere")) == hash(MODEL)


@given(st.lists(st.floats(0.5, 2.0), min_size=2, max_size=50, unique=True))
def test_constants_that_a_fit_varies_are_told_apart(factors: list[float]) -> None:
    """Otherwise every look-up of a fit compares all that it has tried before."""
    gpus = [replace(GPU, memory_bytes_per_s=GPU.memory_bytes_per_s * factor) for factor in factors]
    stacks = [replace(SOFTWARE, kernel_launch_s=SOFTWARE.kernel_launch_s * factor) for factor in factors]
    base = make_scenario(dp=2)
    systems = [
        System.of(replace(base, cluster=replace(base.cluster, gpu=gpu), software=stack))
        for gpu, stack in zip(gpus, stacks, strict=True)
    ]
    for parts in (gpus, stacks, systems):
        assert len({hash(part) for part in parts}) == len(set(parts))


def test_a_part_that_cannot_be_hashed_says_so() -> None:
    with pytest.raises(TypeError, match="set cannot be hashed"):
        hash(replace(SOFTWARE, fused={"rope"}))  # type: ignore[arg-type]
