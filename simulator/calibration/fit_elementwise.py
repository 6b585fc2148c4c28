"""Fit the share of the HBM bandwidth that memory-bound kernels reach, and their fixed time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.calibration.devices import datasheet
from simulator.calibration.fit import Fit, Prior, Values, fit
from simulator.calibration.number import Number, Part, provenance
from simulator.calibration.tables import elementwise_points
from simulator.costs.elementwise import elementwise_s
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from collections.abc import Sequence

GPUS = ("a100-80gb-sxm", "h100-80gb-sxm", "h200-141gb", "gb200", "gb300")
_PRIORS = {"elementwise_fraction": Prior(0.85, 0.30, 1.0), "elementwise_ramp_s": Prior(3e-6, 0.50)}


def fit_elementwise(gpu: str) -> tuple[Part, Fit]:
    """Fit one GPU.

    Args:
        gpu: Catalogue name.

    Returns:
        ``elementwise_fraction`` and ``elementwise_ramp_s``, and the fit behind them.
    """
    points = elementwise_points(gpu)

    def predict(values: Values) -> Sequence[float]:
        reached = replace(
            datasheet(gpu),
            elementwise_fraction=values["elementwise_fraction"],
            elementwise_ramp_s=values["elementwise_ramp_s"],
        )
        pieces = [[piece for piece in point.work if isinstance(piece, Elementwise)] for point in points]
        return [sum(elementwise_s(piece, reached) for piece in work) for work in pieces]

    found = fit(_PRIORS, predict, [point.seconds for point in points])
    source = provenance("elementwise", [point.source for point in points])
    part = {
        name: Number(
            value=found.values[name],
            uncertainty=found.uncertainty[name],
            points=len(points),
            kind="fitted",
            source=source,
        )
        for name in _PRIORS
    }
    return part, found
