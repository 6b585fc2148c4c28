"""Results that are remembered by what was read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from factories import make_scenario

from simulator.scenario.remembered import remembered

if TYPE_CHECKING:
    from simulator.scenario import Scenario

calls: list[str] = []


@remembered
def stages(scenario: Scenario) -> int:
    calls.append("stages")
    return scenario.parallelism.pp * scenario.parallelism.vpp


@remembered
def share(scenario: Scenario, times: int = 1, *, of: str = "rank") -> float:
    calls.append("share")
    if of == "step" and scenario.num_microbatches > 1:
        return times / scenario.num_microbatches
    return times / stages(scenario)


def test_settings_that_were_not_read_make_no_difference_and_others_do() -> None:
    calls.clear()
    base = make_scenario(pp=2, dp=2)
    assert share(base) == 0.5
    assert calls == ["share", "stages"]
    other = replace(base, training=replace(base.training, seq_length=64, global_batch_size=64))
    assert share(other) == 0.5
    assert len(calls) == 2
    assert share(other, of="step") == 1 / 32
    assert share(other, 2) == 1.0
    assert calls == ["share", "stages", "share", "share"]
    deeper = replace(base, parallelism=replace(base.parallelism, pp=4))
    assert share(deeper) == 0.25  # what the inner function read counts for the outer one, too
    assert stages(deeper) == 4
    assert len(calls) == 6


def test_another_model_is_another_world_and_an_equal_one_is_not() -> None:
    calls.clear()
    base = make_scenario(pp=8)
    assert stages(base) == stages(replace(base, model=replace(base.model))) == 8
    assert len(calls) == 1
    assert stages(replace(base, model=replace(base.model, hidden_size=8192))) == 8
    assert len(calls) == 2
