"""Errors of many rows in a few numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSummary:
    """Throughput errors of a group of rows; shares, not percent.

    Attributes:
        rows: Rows in the group.
        mean_abs_error: Mean of the absolute errors.
        median_abs_error: Their median.
        p90_abs_error: Their 90th percentile.
        bias: Mean error: above zero where predictions are too fast.
        skill: Mean absolute error over that of the best constant utilisations; below 1 the simulator knows
            more than a rule of thumb. None where the rule of thumb is exact (one row per constant).
    """

    rows: int
    mean_abs_error: float
    median_abs_error: float
    p90_abs_error: float
    bias: float
    skill: float | None

    def to_dict(self) -> dict[str, object]:
        """Return the numbers as plain data."""
        return asdict(self)


def summarise(errors: Sequence[float], baseline_errors: Sequence[float]) -> ErrorSummary | None:
    """Summarise throughput errors; None without any.

    Args:
        errors: Error of each row.
        baseline_errors: Absolute error of the best constant utilisation for each row.

    >>> summary = summarise([0.1, -0.3], [0.2, 0.6])
    >>> round(summary.mean_abs_error, 3), round(summary.bias, 3), round(summary.skill, 3)
    (0.2, -0.1, 0.5)
    """
    if not errors:
        return None
    absolute = np.abs(np.asarray(errors, dtype=float))
    baseline = float(np.mean(baseline_errors))
    return ErrorSummary(
        rows=len(errors),
        mean_abs_error=float(absolute.mean()),
        median_abs_error=float(np.median(absolute)),
        p90_abs_error=float(np.percentile(absolute, 90)),
        bias=float(np.mean(errors)),
        skill=float(absolute.mean()) / baseline if baseline > 0 else None,
    )


def constant_errors(measured: Sequence[float], groups: Sequence[Hashable]) -> list[float]:
    """Return each row's absolute error under the best constant utilisation of its group, chosen in hindsight.

    A constant ``c`` predicts every row of the group at ``c``, so its error is ``|c / measured - 1|``; the
    mean is least at one of the measured values (a weighted median).

    Args:
        measured: Measured TFLOP/s per GPU of each row (utilisation times a peak that the group shares).
        groups: Group of each row.

    >>> [round(error, 3) for error in constant_errors([100.0, 100.0, 200.0, 50.0], ["a", "a", "a", "b"])]
    [0.0, 0.0, 0.5, 0.0]
    """
    errors = np.zeros(len(measured))
    values = np.asarray(measured, dtype=float)
    for group in dict.fromkeys(groups):
        members = [row for row, name in enumerate(groups) if name == group]
        own = values[members]
        misses = np.abs(own[:, None] / own[None, :] - 1)
        errors[members] = misses[int(np.argmin(misses.mean(axis=1)))]
    return [float(error) for error in errors]
