"""Scenarios share works by the settings that these depend on: what is left out of the key is not read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laws.step_scenarios import scenarios
from simulator.workload.step.settings import NOT_READ, settings_of, step_settings

if TYPE_CHECKING:
    from simulator.scenario import Scenario

OTHER: dict[str, Any] = {
    "training.global_batch_size": lambda size: 3 * size,
    "training.tokens": lambda tokens: 2.0 * (tokens or 1e12),
    "training.overlap.grad_reduce": lambda on: not on,
    "training.overlap.p2p": lambda on: not on,
    "parallelism.vpp": lambda chunks: chunks + 1,
    "parallelism.microbatch_group_size": lambda size: (size or 1) + 1,
    "parallelism.reduce_every_microbatch": lambda on: not on,
}
"""Another value of each setting that is said not to be read."""


def changed(value: Any, path: list[str], other: Any) -> Any:  # noqa: ANN401  a dataclass, or a setting
    if not path:
        return other(value)
    name, *rest = path
    return replace(value, **{name: changed(getattr(value, name), rest, other)})


@pytest.mark.parametrize("path", sorted(NOT_READ))
@settings(max_examples=15)
@given(scenario=scenarios())
def test_settings_left_out_of_the_key_change_no_work(path: str, scenario: Scenario) -> None:
    if path == "training.global_batch_size" and scenario.num_microbatches == 1:
        scenario = changed(scenario, path.split("."), OTHER[path])
    assert settings_of(changed(scenario, path.split("."), OTHER[path])) is settings_of(scenario)


@settings(max_examples=15)
@given(scenario=scenarios(), counts=st.permutations([1, 2, 3]))
def test_settings_kept_of_other_numbers_of_micro_batches_are_those_that_would_be_made(
    scenario: Scenario, counts: list[int]
) -> None:
    """Gradients of a single micro-batch are added to none."""
    software = replace(scenario.software, fused=frozenset())
    per_step = scenario.training.global_batch_size // scenario.num_microbatches
    for count in counts:
        training = replace(scenario.training, global_batch_size=count * per_step)
        one = replace(scenario, software=software, training=training)
        assert one.num_microbatches == count
        assert step_settings(one) is settings_of(one)


@settings(max_examples=30)
@given(scenario=scenarios())
def test_of_the_cluster_only_its_gpu_changes_works(scenario: Scenario) -> None:
    cluster = scenario.cluster
    other = replace(
        cluster,
        gpus=2 * cluster.gpus,
        gpus_per_node=1,
        scale_up_domain=2 * cluster.scale_up_domain,
        network=replace(cluster.network, bytes_per_s_per_gpu=1.0),
        price_per_gpu_hour=1.0,
    )
    moved = replace(scenario, cluster=other, engine="compiled", name="another")
    assert settings_of(moved) is settings_of(scenario) is step_settings(scenario)


def test_every_setting_left_out_is_tried() -> None:
    assert OTHER.keys() == NOT_READ
