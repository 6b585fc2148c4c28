"""What was timed and is predicted: a part of a layer, or a step fed with measured times of its passes."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A prediction in seconds beside its measurement.

    Attributes:
        id: Its name.
        source: Where the measurement stands.
        predicted_s: Seconds as predicted.
        measured_s: Seconds as measured.
    """

    id: str
    source: str
    predicted_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """Error of the speed: above zero where the prediction is too fast."""
        return self.measured_s / self.predicted_s - 1.0

    def to_dict(self) -> dict[str, object]:
        """Return what was timed, and the error, as plain data."""
        return {**asdict(self), "error": self.error}
