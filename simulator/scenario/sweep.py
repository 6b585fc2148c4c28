"""What to vary and what to draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPoint:
    """A published measurement to draw beside a curve.

    Attributes:
        x: Value on the horizontal axis.
        y: Measured value of the sweep's metric.
        source: Citation, shown in the legend.
        series: Value of the series setting that the point belongs to, or None.
    """

    x: float
    y: float
    source: str
    series: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep: the product of the values of each setting, or one point per position.

    Attributes:
        parameters: Dotted path of a scenario setting to the values it takes.
        together: Whether the values are taken position by position instead of in all combinations.
        x: Setting (dotted path) on the horizontal axis.
        y: Metric on the vertical axis, a key of ``Result.metrics``.
        series: Setting that tells the curves of one figure apart, or None.
        published: Measurements to draw beside the curves.
    """

    parameters: Mapping[str, tuple[object, ...]]
    together: bool = False
    x: str
    y: str = "tflops_per_gpu"
    series: str | None = None
    published: tuple[PublishedPoint, ...] = ()
