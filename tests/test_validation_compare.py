"""Predictions stand beside measurements in the metric, convention and quantity of their source."""

from __future__ import annotations

import pytest
from published_rows import run

from simulator.validation.conventions import stated_convention


def test_a_time_that_is_too_long_and_a_rate_that_is_too_low_have_the_same_error() -> None:
    slow = run(measured={"step_time_s": 8.0}).comparison  # 10 s predicted: 20% too slow
    assert slow is not None
    assert slow.error == pytest.approx(-0.2)
    tokens = 128 * 8192 / 8.0 / 64
    rate = run(measured={"step_time_s": None, "tokens_per_s_per_gpu": tokens}).comparison
    samples = run(measured={"step_time_s": None, "samples_per_s_per_gpu": tokens / 8192}).comparison
    assert rate is not None
    assert samples is not None
    assert rate.error == pytest.approx(-0.2)
    assert samples.error == pytest.approx(-0.2)
    assert slow.measured_tflops == pytest.approx(500.0)  # 400 predicted over 0.8


def test_better_metrics_come_first() -> None:
    measured = {
        "mfu": 0.4,
        "tflops_per_gpu": 400.0,
        "samples_per_s_per_gpu": 1.0,
        "tokens_per_s_per_gpu": 1.0,
    }
    order = ["step_time_s", "tokens_per_s_per_gpu", "samples_per_s_per_gpu", "tflops_per_gpu", "mfu"]
    stated: dict[str, object] = {"step_time_s": 8.0, **measured}
    for metric in order:
        found = run(measured=stated).comparison
        assert found is not None
        assert found.metric == metric
        stated[metric] = None
    assert run(measured=stated).reason == "row states no speed to compare with"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("attention CAUSAL-HALVED here", 400.0),
        ("attention NON-causal, recompute not counted", 440.0),
        ("6N + 12Lhs", 450.0),
        ("96BsLh^2(1+s/6h+V/16Lh), recompute counted", 580.0),
        ("6*N per token", 390.0),
        (None, 400.0),
    ],
)
def test_flops_are_compared_as_the_source_counts_them(text: str | None, expected: float) -> None:
    found = run(measured={"step_time_s": None, "tflops_per_gpu": 380.0}, flops_convention=text)
    assert found.comparison is not None
    assert found.comparison.predicted == expected
    assumed = any(warning.startswith("FLOP convention not recognised") for warning in found.warnings)
    assert assumed == (stated_convention(text or "") is None)


@pytest.mark.parametrize(
    ("text", "peak"),
    [
        ("causal-halved, peak 989/1979", 989.0),
        ("causal-halved, peak 312", 989.0),
        ("causal-halved, vs 1000", 1000.0),
    ],
)
def test_mfu_is_measured_against_the_stated_peak_if_it_is_this_gpus(text: str, peak: float) -> None:
    found = run(measured={"step_time_s": None, "mfu": 0.4}, flops_convention=text).comparison
    assert found is not None
    assert found.predicted == pytest.approx(400 / peak)


def test_memory_in_gib_and_in_gb() -> None:
    gib = run(measured={"peak_memory_gib": 50.0}).comparison
    gb = run(measured={"peak_memory_gb": 50.0}).comparison
    assert gib is not None
    assert gb is not None
    assert gib.memory_error == pytest.approx(0.2)
    assert gb.memory_error == pytest.approx(0.2 * 2**30 / 1e9 + (2**30 / 1e9 - 1), rel=1e-9)


@pytest.mark.parametrize(
    ("stack", "notes", "gib"),
    [
        ("Megatron-Core", "", 60.0),
        ("Megatron-Core", "peak is max_memory_allocated", 50.0),
        ("torchtitan", "", 55.0),
        ("Megatron-LM fork 2024 (sail-sg)", "", 50.0),
        ("Megatron-LM fork 2024 (sail-sg)", "memory is max reserved", 55.0),
    ],
)
def test_memory_is_compared_in_the_quantity_that_the_source_measures(
    stack: str, notes: str, gib: float
) -> None:
    found = run(stack=stack, notes=notes, measured={"peak_memory_gib": gib}).comparison
    assert found is not None
    assert found.memory_error == pytest.approx(0.0)
    assert found.predicted_memory_bytes == 60 * 2**30
