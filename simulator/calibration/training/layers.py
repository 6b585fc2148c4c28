"""Whole layers as the fit sees them: memory-bound kernels without hosts and schedules around.

What a stack's memory-bound kernels take shows in a layer alone; a whole step hides it behind everything else
that may be wrong. Layers were timed with hidden launches and at a known clock, so that nothing else of the
constants is in them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.calibration.training.constants import SLOWDOWN, Constant
from simulator.calibration.training.runs import Response
from simulator.validation.components import Component, outcomes_of, read_components

if TYPE_CHECKING:
    from collections.abc import Mapping

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
