"""Predicted over published throughput of many runs, one point each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from simulator.errors import InputError
from simulator.reports.figure import house_style
from simulator.reports.style import BLACK, CURVE_COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WIDTH_IN, _HEIGHT_IN = 8.4, 5.4
_BAND = 0.1
_MARKERS = "osD^vP*X"
_FEW_ROWS = 10
_MOST_SOURCES = 24
"""More sources than that leave no room in the legend: those of few rows share an entry."""


def validation_figure(rows: Sequence[Mapping[str, object]]) -> Figure:
    """Draw predicted over measured TFLOP/s per GPU, coloured by source, with a band of 10% about equality.

    Both axes are logarithmic; what the measurement means in TFLOP/s is counted with attention causal-halved
    for every source, so that all rows share one axis.

    Args:
        rows: The ``rows`` of a validation report's dictionary; skipped ones are left out.

    Raises:
        InputError: No row was simulated.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        measured, error = row["measured_tflops_per_gpu"], row["error"]
        if isinstance(measured, float) and isinstance(error, float):
            points.setdefault(str(row["source"]), []).append((measured, measured * (1 + error)))
    if not points:
        raise InputError("no row was simulated: there is nothing to draw")
    if len(points) > _MOST_SOURCES:
        points = _folded(points)
    values = [value for pairs in points.values() for pair in pairs for value in pair]
    ends = [min(values) / 1.2, max(values) * 1.2]
    with house_style():
        figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), layout="constrained")
        axes = figure.add_subplot()
        for number, (source, pairs) in enumerate(sorted(points.items())):
            axes.plot(
                *zip(*pairs, strict=True),
                _MARKERS[number // len(CURVE_COLOURS) % len(_MARKERS)],
                color=CURVE_COLOURS[number % len(CURVE_COLOURS)],
                markersize=3.5,
                alpha=0.7,
                label=f"{source} ({len(pairs)})",
            )
        axes.plot(ends, ends, color=BLACK, linewidth=0.8)
        low, high = ([end * (1 + side) for end in ends] for side in (-_BAND, _BAND))
        axes.fill_between(ends, low, high, color=BLACK, alpha=0.1, linewidth=0, label="within 10%")
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axis.set_minor_locator(NullLocator())
        axes.set_xlabel("published model TFLOP/s per GPU (attention causal-halved)")
        axes.set_ylabel("predicted")
        figure.legend(loc="outside right upper", fontsize=6)
    return figure


def _folded(points: dict[str, list[tuple[float, float]]]) -> dict[str, list[tuple[float, float]]]:
    """Put sources of few rows together."""
    few = [source for source, pairs in points.items() if len(pairs) < _FEW_ROWS]
    together = [pair for source in few for pair in points[source]]
    kept = {source: pairs for source, pairs in points.items() if source not in few}
    return kept | ({f"{len(few)} sources of few runs": together} if few else {})
