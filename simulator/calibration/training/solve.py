"""Robust least squares over all constants at once: typical values and what sets each owner apart.

Around the present constants, the logarithm of a run's error is linear in theirs. One step of Gauss-Newton
minimises

    sum_r w_r rho(e_r + s_r . dx) + sum (typical / spread)^2 + sum (own / spread)^2

with ``rho(e) = 2 (sqrt(1 + (e / SCALE)^2) - 1)``, quadratic for small errors and linear for large ones: a run
that is misunderstood must not pull the constants of all others. ``w_r`` is one over the square root of the
number of runs of its source, so that neither the largest source nor the smallest rules.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from simulator.calibration.training.constants import Constant
    from simulator.calibration.training.runs import Response

SCALE = 0.06
"""Spread of what the same configuration yields in two releases or on two clusters (4 to 10%)."""
_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Model:
    """Where the constants stand.

    Attributes:
        constants: What is fitted.
        typical: Logarithm of each group's typical value over the one assumed beforehand.
        own: Logarithm of each constant over its group's typical value.
    """

    constants: tuple[Constant, ...]
    typical: Mapping[str, float]
    own: Mapping[Constant, float]

    @classmethod
    def start(cls, constants: Sequence[Constant]) -> Model:
        """Return what is assumed before any run is seen."""
        groups = dict.fromkeys(constant.group for constant in constants)
        return cls(tuple(constants), dict.fromkeys(groups, 0.0), dict.fromkeys(constants, 0.0))

    def value(self, constant: Constant) -> float:
        """Return a constant's value within its physical limits."""
        quantity = constant.quantity
        logarithm = self.typical[constant.group] + self.own[constant]
        return float(np.clip(quantity.typical * np.exp(logarithm), quantity.least, quantity.most))

    def typical_value(self, constant: Constant) -> float:
        """Return the typical value of a constant's group."""
        return float(constant.quantity.typical * np.exp(self.typical[constant.group]))

    @property
    def values(self) -> dict[Constant, float]:
        """Every constant's value."""
        return {constant: self.value(constant) for constant in self.constants}


@dataclass(frozen=True, slots=True)
class Step:
    """One solution of the linearised problem.

    Attributes:
        model: The constants after it.
        uncertainty: Standard error of each constant's logarithm.
    """

    model: Model
    uncertainty: Mapping[Constant, float]


def weights(sources: Sequence[str]) -> NDArray[np.float64]:
    """Return the weight of every run: one over the square root of its source's number of runs, mean one.

    >>> [round(float(w), 3) for w in weights(["a", "a", "a", "a", "b"])]
    [0.833, 0.833, 0.833, 0.833, 1.667]
    """
    counts = Counter(sources)
    raw = np.array([counts[source] ** -0.5 for source in sources])
    return np.asarray(raw / raw.mean(), dtype=np.float64)


def solve(
    model: Model, responses: Sequence[Response], weight: NDArray[np.float64], limit: float = 0.5
) -> Step:
    """Minimise the linearised problem.

    Args:
        model: Where the responses were taken.
        responses: Error and slopes of every run; those that are not finite do not count.
        weight: Weight of every run.
        limit: How far a constant may move in spreads of its prior, typical and own each.
    """
    groups = list(model.typical)
    width = len(groups) + len(model.constants)
    column = {constant: len(groups) + index for index, constant in enumerate(model.constants)}
    spread = np.array(
        [_typical_spread(model, group) for group in groups]
        + [constant.quantity.own_spread for constant in model.constants]
    )
    at = np.array(
        [model.typical[group] for group in groups] + [model.own[constant] for constant in model.constants]
    )
    usable = [index for index, found in enumerate(responses) if np.isfinite(found.log_error)]
    slopes = np.zeros((len(usable), width))
    for line, index in enumerate(usable):
        for constant, slope in responses[index].slopes.items():
            if np.isfinite(slope):
                slopes[line, column[constant]] += slope
                slopes[line, groups.index(constant.group)] += slope
    errors = np.array([responses[index].log_error for index in usable])
    weight = weight[usable]
    move = np.zeros(width)
    for _ in range(_ROUNDS):
        # Iteratively reweighted least squares: rho'(e) / e of every run.
        rho = weight / np.sqrt(1.0 + ((errors + slopes @ move) / SCALE) ** 2) / SCALE**2
        matrix = slopes.T @ (rho[:, None] * slopes) + np.diag(spread**-2.0)
        move = np.linalg.solve(matrix, -slopes.T @ (rho * errors) - at * spread**-2.0)
    covariance: NDArray[np.float64] = np.linalg.inv(matrix).astype(np.float64)
    new = at + np.clip(move, -limit * spread, limit * spread)
    moved = Model(
        model.constants,
        dict(zip(groups, new.tolist(), strict=False)),
        {constant: float(new[column[constant]]) for constant in model.constants},
    )
    return Step(moved, {c: _deviation(covariance, groups.index(c.group), column[c]) for c in model.constants})


def objective(model: Model, errors: Sequence[float], weight: NDArray[np.float64]) -> float:
    """Return what the fit minimises, for given errors of the runs."""
    found = np.asarray(errors)
    usable = np.isfinite(found)
    loss = 2.0 * (np.sqrt(1.0 + (found[usable] / SCALE) ** 2) - 1.0)
    priors = [(value / _typical_spread(model, group)) ** 2 for group, value in model.typical.items()]
    priors += [(model.own[constant] / constant.quantity.own_spread) ** 2 for constant in model.constants]
    return float((weight[usable] * loss).sum() + sum(priors))


def _typical_spread(model: Model, group: str) -> float:
    return next(c.quantity.typical_spread for c in model.constants if c.group == group)


def _deviation(covariance: NDArray[np.float64], group: int, own: int) -> float:
    variance = covariance[group, group] + covariance[own, own] + 2.0 * covariance[group, own]
    return float(np.sqrt(max(variance, 0.0)))
