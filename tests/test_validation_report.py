"""Rows in a few numbers: skill over a rule of thumb, order and choice of layouts."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.validation.campaign import campaigns
from simulator.validation.compare import Comparison
from simulator.validation.layout_sweeps import layout_sweeps
from simulator.validation.outcome import RowOutcome
from simulator.validation.statistics import constant_errors


def test_skill_compares_with_the_best_constant() -> None:
    measured = [100.0, 110.0, 400.0, 300.0]
    errors = constant_errors(measured, ["a", "a", "a", "b"])
    others = (90.0, 105.0, 200.0, 300.0, 400.0)
    worse = [sum(abs(constant / value - 1) for value in measured[:3]) for constant in others]
    assert sum(errors[:3]) <= min(worse)
    assert errors[3] == 0


def test_sweeps_over_layouts_are_judged_by_order_and_by_choice() -> None:
    """Three of the six rows are ordered wrongly; the predicted best yields 100 of 120."""
    rows = [
        {"id": str(index), "source": "s", "sweep": "model on cluster", "measured": measured, "error": error}
        for index, (measured, error) in enumerate(
            [(100.0, 0.3), (120.0, 0.0), (90.0, 0.0), (80.0, 0.0), (70.0, 0.0), (60.0, 0.0)]
        )
    ]
    (sweep,) = layout_sweeps([_simulated(row) for row in rows])
    assert sweep.choice == pytest.approx(100 / 120)
    assert sweep.rank_correlation == pytest.approx(1 - 6 * 2 / (6 * 35))
    assert layout_sweeps([_simulated(row) for row in rows[:5]]) == ()


def test_hours_of_a_campaign_are_tokens_over_speed_and_interruptions() -> None:
    """All 15.6 trillion tokens at 150 tokens/s per GPU are 28.9 million hours of steps."""
    speeds = {f"llama3-herd-t4-405b-g16384-s{length}": 150.0 for length in (8192, 131072)}
    (campaign,) = campaigns(speeds)
    assert campaign.stepping_hours == pytest.approx(15.6e12 / 150 / 3600)
    assert campaign.with_interruptions_hours == pytest.approx(campaign.stepping_hours / 0.9)
    assert campaigns({}) == ()


def _simulated(row: dict[str, Any]) -> tuple[RowOutcome, Comparison]:
    found = Comparison(
        metric="mfu", predicted=0.0, published=0.0, error=row["error"], convention=None,
        measured_tflops=row["measured"], tokens_per_s_per_gpu=0.0, predicted_memory_bytes=0.0,
        published_memory_bytes=None, memory_error=None, fits=True,
    )  # fmt: skip
    outcome = RowOutcome(id=row["id"], source=row["source"], gpu="", sweep=row["sweep"], comparison=found)
    return outcome, found
