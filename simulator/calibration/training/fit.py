"""The fit: respond, solve, repeat; then once more without each source, as a new source would see it.

Whole layers are part of the fit: what a stack's memory-bound kernels take shows in a layer alone; a whole
step hides it behind everything else that may be wrong. Layers were timed with hidden launches and at a known
clock, so that nothing else of the constants is in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from simulator.calibration.training.constants import SLOWDOWN, Constant
from simulator.calibration.training.runs import Observed, Response, all_constants, published_runs
from simulator.calibration.training.solve import Model, Step, objective, solve, weights
from simulator.validation.components import Component, outcomes_of, read_components

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


ITERATIONS = 5
_ENOUGH = 0.002
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFit:
    """Fitted constants.

    Attributes:
        model: Their values.
        uncertainty: Standard error of each one's logarithm.
        runs: Runs that each constant was fitted to.
        errors: Mean absolute logarithm of the error over those runs.
        without: Values that differ when a source is left out, by source.
    """

    model: Model
    uncertainty: Mapping[Constant, float]
    runs: Mapping[Constant, int]
    errors: Mapping[Constant, float]
    without: Mapping[str, Mapping[Constant, float]]


def fit_training(report: Report = lambda _: None) -> TrainingFit:
    """Fit all constants to the published runs and the measured layers.

    Args:
        report: Called with one line on each iteration.
    """
    runs: list[Observed] = [*published_runs(), *measured_layers()]
    weight = weights([run.source for run in runs])
    model = Model.start(all_constants(runs))
    with ProcessPoolExecutor() as pool:
        responses = _responses(pool, runs, model)
        for iteration in range(ITERATIONS):
            before = objective(model, [found.log_error for found in responses], weight)
            report(f"iteration {iteration}: objective {before:.1f}, {_summary(responses)}")
            better = _improved(pool, runs, model, responses, weight, before)
            if better is None:
                break
            model, responses = better
    final = solve(model, responses, weight, limit=0.0)
    return TrainingFit(
        model=model,
        uncertainty=final.uncertainty,
        runs=_counts(model, responses),
        errors=_mean_errors(model, responses),
        without=_without(runs, model, responses, weight),
    )


def _responses(pool: ProcessPoolExecutor, runs: Sequence[Observed], model: Model) -> list[Response]:
    return list(pool.map(partial(_response, values=model.values), runs, chunksize=4))


def _response(observed: Observed, values: Mapping[Constant, float]) -> Response:
    return observed.response(values)


def _improved(
    pool: ProcessPoolExecutor,
    runs: Sequence[Observed],
    model: Model,
    responses: Sequence[Response],
    weight: NDArray[np.float64],
    before: float,
) -> tuple[Model, list[Response]] | None:
    """Take the longer of two steps that lowers the objective by enough to go on, or none."""
    for limit in (1.5, 0.4):
        found = solve(model, responses, weight, limit).model
        there = _responses(pool, runs, found)
        if objective(found, [each.log_error for each in there], weight) < before * (1.0 - _ENOUGH):
            return found, there
    return None


def _without(
    runs: Sequence[Observed], model: Model, responses: Sequence[Response], weight: NDArray[np.float64]
) -> dict[str, dict[Constant, float]]:
    """Solve again without each source, from the slopes at the optimum."""
    found: dict[str, dict[Constant, float]] = {}
    for source in dict.fromkeys(run.source for run in runs):
        kept = [index for index, run in enumerate(runs) if run.source != source]
        step: Step = solve(model, [responses[index] for index in kept], weight[kept], limit=10.0)
        needed = {
            c for run, at in zip(runs, responses, strict=True) if run.source == source for c in at.slopes
        }
        found[source] = {c: step.model.value(c) for c in model.constants if c in needed}
    return found


def _counts(model: Model, responses: Sequence[Response]) -> dict[Constant, int]:
    return {c: sum(c in found.slopes for found in responses) for c in model.constants}


def _mean_errors(model: Model, responses: Sequence[Response]) -> dict[Constant, float]:
    return {
        c: float(np.nanmean([abs(found.log_error) for found in responses if c in found.slopes]))
        for c in model.constants
    }


def _summary(responses: Sequence[Response]) -> str:
    errors = np.abs(np.expm1([found.log_error for found in responses]))
    return f"mean error {np.nanmean(errors):.1%}, median {np.nanmedian(errors):.1%} of {len(errors)} runs"


_KINDS = ("layer", "experts")


@dataclass(frozen=True, slots=True)
class MeasuredLayer:
    """A layer, or its experts, and how long its passes took."""

    component: Component

    @property
    def source(self) -> str:
        """Where it was published."""
        return self.component.source

    @property
    def constants(self) -> tuple[Constant, ...]:
        """What its speed depends on."""
        return (Constant(SLOWDOWN, self.component.scenario.software.name),)

    def log_error(self, values: Mapping[Constant, float]) -> float:
        """Return the logarithm of measured over predicted seconds of all passes."""
        (constant,) = self.constants
        passes = outcomes_of(self.component, constant.apply(self.component.scenario, values[constant]))
        return math.log(sum(each.measured_s for each in passes) / sum(each.predicted_s for each in passes))

    def response(self, values: Mapping[Constant, float]) -> Response:
        """Return the error and how it changes with the slow-down of memory-bound kernels."""
        (constant,) = self.constants
        here = self.log_error(values)
        change = constant.quantity.step
        moved = self.log_error({constant: values[constant] * (1.0 + change)})
        return Response(here, {constant: (moved - here) / math.log1p(change)})


def measured_layers() -> list[MeasuredLayer]:
    """Return the measured layers of the package, in its order."""
    return [MeasuredLayer(component) for component in read_components() if component.kind in _KINDS]
