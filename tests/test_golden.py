"""What ``run`` says of a few scenarios of the golden record; ``tests/golden.py compare`` compares all."""

from __future__ import annotations

import golden
import pytest

ANOTHER_MACHINE = 1e-9
"""Relative: other processors round sums of products of matrices differently."""
CHANGES_OFTEN = ("digest",)
"""Names everything that a scenario holds, so that a new field changes it."""
ONES = (
    "scenarios/llama3-8b-512.yaml",
    "scenarios/llama3-70b-h100-and-a100.yaml",
    "scenarios/mixtral-8x7b-h100.yaml",
    "scenarios/maxtext-16b-v5e-slices.yaml",
    "scenarios/llama3-405b-16k.yaml",
)
HOLD = (
    '"vocabulary":"vocab-2"',
    '"csv":',
    '"schedule":"dualpipe-v"',
    '"schedule":"zb-2p"',
    '"sharding":"hybrid"',
    '"cp_comm":"ring"',
    '"ep":true',
    '"mamba":{',
    '"precision":"nvfp4"',
    '"optimizer":"stream"',
    '"pools":[',
)
"""Of the random documents the first that holds each of these."""
PAIRS = [(item["entry"], item["answer"]) for item in golden.read_record()["entries"]]


@pytest.mark.parametrize("name", ONES)
def test_a_shipped_scenario_runs_as_recorded(name: str) -> None:
    pair = next(pair for pair in PAIRS if golden.name_of(pair[0]) == name)
    assert golden.beyond(golden.check(pair, CHANGES_OFTEN), ANOTHER_MACHINE) == []


@pytest.mark.parametrize("text", HOLD)
def test_a_random_scenario_runs_as_recorded(text: str) -> None:
    pair = next(pair for pair in PAIRS if text in golden.compact(pair[0]) and "document" in pair[0])
    assert golden.beyond(golden.check(pair, CHANGES_OFTEN), ANOTHER_MACHINE) == []


@pytest.mark.parametrize("source", ["korthikanti_2022", "megatron_lm_functional_tests"])
def test_a_published_row_is_predicted_as_recorded(source: str) -> None:
    pair = next(pair for pair in PAIRS if pair[0].get("source") == source)
    assert golden.beyond(golden.check(pair, CHANGES_OFTEN), ANOTHER_MACHINE) == []


def test_a_changed_digit_word_and_key_are_differences() -> None:
    old = {"a": 1.0, "b": ["x", 2], "c": {"d": 0.1}}
    new = {"a": 1.0000000000000002, "b": ["y", 2.0], "c": {"e": 0.1}}
    found = list(golden.differences("one", old, new))
    assert [item.path for item in found] == ["a", "b[0]", "b[1]", "c (keys)"]
    assert [item.path for item in golden.beyond(found, 1e-12)] == ["b[0]", "b[1]", "c (keys)"]
    assert list(golden.differences("one", old, old)) == []


def test_only_parts_of_a_breakdown_have_noise_beside_a_large_number() -> None:
    old = {"run": {"step_time_s": 1e-3, "tokens_per_s": 1e9, "breakdown_s": {"compute": 1.0, "bubble": 0.0}}}
    new = {
        "run": {"step_time_s": 1.1e-3, "tokens_per_s": 1e9, "breakdown_s": {"compute": 1.0, "bubble": 1e-16}}
    }
    found = list(golden.differences("one", old, new))
    assert [item.path for item in found] == ["run.step_time_s", "run.breakdown_s.bubble"]
    assert [item.path for item in golden.beyond(found, 1e-9)] == ["run.step_time_s"]
