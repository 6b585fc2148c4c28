"""Least squares over positive constants: robust, in log space, with what is known beforehand.

Relative errors matter, so residuals are ln(predicted / measured) over ``SPREAD``, the scatter of repeated
measurements between GPUs of one kind (5%: stas00/ml-engineering, compute/accelerator/README.md). A prior, a
typical value and its spread, keeps constants physical that the measurements at hand hardly depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import expm1, log
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPREAD = 0.05
# Differences are taken in steps relative to the variable, which must therefore not be zero.
_AWAY_FROM_ZERO = 10.0
Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Prior:
    """What is known of a constant before the fit.

    Attributes:
        value: Typical value.
        spread: Standard deviation of its logarithm.
        most: Physical upper limit.
    """

    value: float
    spread: float
    most: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Fitted constants.

    Attributes:
        values: By name.
        uncertainty: Standard errors, in the units of the values.
        log_errors: ln(predicted / measured) of every point.
    """

    values: Values
    uncertainty: Values
    log_errors: NDArray[np.float64]

    @property
    def relative_errors(self) -> NDArray[np.float64]:
        """Absolute relative error of every point."""
        return np.abs(np.expm1(self.log_errors))


def fit(
    priors: Mapping[str, Prior], predict: Callable[[Values], Sequence[float]], measured: Sequence[float]
) -> Fit:
    """Fit constants to measured seconds.

    Args:
        priors: What is known of each constant.
        predict: Seconds of every point, given the constants.
        measured: Seconds of every point.
    """
    from scipy.optimize import least_squares  # type: ignore[import-untyped]  # noqa: PLC0415  an extra

    names = list(priors)
    centre = np.array([log(priors[name].value) for name in names])
    spread = np.array([priors[name].spread for name in names])
    most = np.array([log(priors[name].most) for name in names])
    shift = _AWAY_FROM_ZERO - centre
    target = np.log(np.asarray(measured, dtype=np.float64))

    def log_errors(x: NDArray[np.float64]) -> NDArray[np.float64]:
        seconds = predict(dict(zip(names, np.exp(x - shift).tolist(), strict=True)))
        return np.asarray(np.log(seconds) - target)

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([log_errors(x) / SPREAD, (x - _AWAY_FROM_ZERO) / spread])

    bounds = (_AWAY_FROM_ZERO - 6.0 * spread, np.minimum(_AWAY_FROM_ZERO + 6.0 * spread, most + shift))
    start = np.clip(np.full(len(names), _AWAY_FROM_ZERO), bounds[0] + 1e-6, bounds[1] - 1e-6)
    found = least_squares(residuals, start, bounds=bounds, loss="soft_l1", f_scale=1.5, diff_step=1e-5)
    fitted = np.exp(found.x - shift).tolist()
    covariance = np.linalg.inv(found.jac.T @ found.jac)
    scatter = max(1.0, 2.0 * found.cost / max(1, len(target)))
    errors = np.sqrt(np.diag(covariance) * scatter)
    return Fit(
        values=dict(zip(names, fitted, strict=True)),
        uncertainty={
            name: value * expm1(min(error, 1.0))
            for name, value, error in zip(names, fitted, errors.tolist(), strict=True)
        },
        log_errors=log_errors(found.x),
    )
