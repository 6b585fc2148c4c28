"""GPU hours of whole training campaigns: what the step model says, and what interruptions add."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from simulator.documents import parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.validation.outcome import RowOutcome

_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """One campaign.

    Attributes:
        id: Its name.
        stepping_hours: GPU hours of its steps alone, predicted.
        with_interruptions_hours: The same over the effective share of time that its source states.
        published_hours: GPU hours as published.
        missing: What the model leaves out.
    """

    id: str
    stepping_hours: float
    with_interruptions_hours: float
    published_hours: float
    missing: str

    @property
    def error(self) -> float:
        """Predicted over published hours, less one: above zero where the prediction is too slow."""
        return self.with_interruptions_hours / self.published_hours - 1.0

    def to_dict(self) -> dict[str, object]:
        """Return it as plain data."""
        return {**asdict(self), "error": self.error}


def campaigns(tokens_per_s_per_gpu: Mapping[str, float]) -> tuple[Campaign, ...]:
    """Predict every campaign whose phases were simulated.

    Args:
        tokens_per_s_per_gpu: Predicted speed by the id of a published row.
    """
    text = files("simulator.validation").joinpath("campaigns.yaml").read_text("utf-8")
    entries: Any = parse(text, "campaigns.yaml").data
    return tuple(
        _campaign(entry, tokens_per_s_per_gpu)
        for entry in entries
        if all(phase["row"] in tokens_per_s_per_gpu for phase in entry["phases"])
    )


def predicted_speeds(rows: tuple[RowOutcome, ...]) -> dict[str, float]:
    """Return the predicted tokens per second and GPU of every simulated row."""
    return {row.id: row.comparison.tokens_per_s_per_gpu for row in rows if row.comparison is not None}


def _campaign(entry: Mapping[str, Any], speeds: Mapping[str, float]) -> Campaign:
    seconds = sum(float(phase["tokens"]) / speeds[phase["row"]] for phase in entry["phases"])
    hours = seconds / _SECONDS_PER_HOUR
    return Campaign(
        id=entry["id"],
        stepping_hours=hours,
        with_interruptions_hours=hours / float(entry["effective_share"]),
        published_hours=float(entry["gpu_hours"]),
        missing=entry["missing"],
    )
