"""A utilisation curve: what a sweep predicts, and what was published, in one picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from simulator.errors import InputError, did_you_mean
from simulator.reports.figure import house_style
from simulator.reports.metric_text import axis_label, axis_value, label
from simulator.reports.style import BLACK, CURVE_COLOURS
from simulator.results.flops import CONVENTION_TEXTS, DEFAULT_CONVENTION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from simulator.explore import SweepPoint, SweepTable
    from simulator.scenario import Sweep

_WIDTH_IN, _HEIGHT_IN = 7.2, 4.3
_MARKERS = "osD^vP*X"
_PUBLISHED_SIZE = 60


@dataclass(slots=True)
class _Curve:
    """Points of one series, in the order of the sweep."""

    series: object
    x: list[object] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    fits: list[bool] = field(default_factory=list)


def curve_figure(table: SweepTable) -> Figure:
    """Draw the sweep's metric over its horizontal axis, one line per value of its ``series`` setting.

    A point that does not fit in memory is hollow; one that is not possible is a cross on the axis; published
    points are black.

    Args:
        table: A sweep; its ``sweep`` says what the axes are.

    Raises:
        InputError: No point has the vertical axis's metric, or a published point has no place on the
            horizontal one.
    """
    sweep = table.sweep
    positions = _Positions(sorted_values([point.settings[sweep.x] for point in table.points]))
    _check_metric(table)
    curves = _curves(table)
    with house_style():
        figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), layout="constrained")
        axes = figure.add_subplot()
        for number, curve in enumerate(curves):
            _draw_curve(axes, sweep, curve, positions, number)
        _explain_hollow(axes, curves)
        _draw_published(axes, table, positions, [curve.series for curve in curves])
        axes.set_title(table.scenario.name, pad=20)
        axes.annotate(_note(sweep.y), (0, 1), (0, 7), "axes fraction", "offset points", size=8, color="0.35")
        axes.set_xlabel(label(sweep.x))
        axes.set_ylabel(axis_label(sweep.y))
        _scale(axes, positions)
        _mark_impossible(axes, table, positions)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best")
    return figure


def _check_metric(table: SweepTable) -> None:
    known = {name: None for point in table.points for name in point.metrics}
    if known and table.sweep.y not in known:
        near = did_you_mean(table.sweep.y, known)
        raise InputError(
            f"sweep.y: no point has {table.sweep.y!r}{near or ', but each has ' + ', '.join(known)}"
        )


def _note(metric: str) -> str:
    """Say what a throughput counts: the same run is worth more or less by convention."""
    if metric in {"tflops_per_gpu", "mfu"}:
        return f"Model FLOPs: {CONVENTION_TEXTS[DEFAULT_CONVENTION]}"
    convention = metric.removeprefix("tflops_per_gpu_")
    known = {str(name): text for name, text in CONVENTION_TEXTS.items()}
    return f"Model FLOPs: {known[convention]}" if convention in known else ""


def sorted_values(values: Sequence[object]) -> list[object]:
    """Return distinct values in order: numbers by size, anything else as it comes.

    >>> sorted_values([8, 2, 8]), sorted_values(["b", "a"])
    ([2, 8], ['b', 'a'])
    """
    distinct = list(dict.fromkeys(map(_hashable, values)))
    return sorted(distinct, key=float) if all(map(_is_number, distinct)) else distinct  # type: ignore[arg-type]


def _hashable(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(slots=True)
class _Positions:
    """Where values stand on the horizontal axis: numbers at their place, words one after the other."""

    values: list[object]

    @property
    def are_numbers(self) -> bool:
        return all(map(_is_number, self.values))

    @property
    def are_logarithmic(self) -> bool:
        """Whether the numbers are spaced like a geometric series rather than evenly."""
        if not self.are_numbers or len(self.values) < 3:
            return False
        numbers = np.asarray(self.values, dtype=float)
        if numbers.min() <= 0:
            return False
        uneven = np.diff(numbers)
        uneven_ratio = np.diff(np.log(numbers))
        return bool(np.std(uneven_ratio) / np.mean(uneven_ratio) < np.std(uneven) / np.mean(uneven))

    def of(self, value: object) -> float:
        if self.are_numbers and _is_number(value):
            return float(value)  # type: ignore[arg-type]
        if _hashable(value) in self.values:
            return float(self.values.index(_hashable(value)))
        known = ", ".join(map(str, self.values))
        raise InputError(f"sweep.published: {value!r} is not on the horizontal axis, which has {known}")


def _curves(table: SweepTable) -> list[_Curve]:
    sweep = table.sweep
    curves: dict[object, _Curve] = {}
    for point in table.points:
        series = _hashable(point.settings.get(sweep.series)) if sweep.series else None
        curve = curves.setdefault(series, _Curve(series))
        if sweep.y in point.metrics:
            curve.x.append(point.settings[sweep.x])
            curve.y.append(axis_value(sweep.y, point.metrics[sweep.y]))
            curve.fits.append(point.fits)
    return list(curves.values())


def _draw_curve(axes: Axes, sweep: Sweep, curve: _Curve, positions: _Positions, number: int) -> None:
    colour = CURVE_COLOURS[number % len(CURVE_COLOURS)]
    x = np.array([positions.of(value) for value in curve.x])
    y, fits = np.array(curve.y), np.array(curve.fits, dtype=bool)
    order = np.argsort(x, kind="stable")
    x, y, fits = x[order], y[order], fits[order]
    name = "simulated" if curve.series is None else f"{_short(sweep.series)} {_word(curve.series)}"
    marker = _MARKERS[number % len(_MARKERS)]
    axes.plot(x, y, color=colour, marker=marker, label=name, zorder=3)
    if not fits.all():
        hollow = axes.scatter(x[~fits], y[~fits], marker=marker, s=26, zorder=4, linewidth=1.4)
        hollow.set(facecolor="white", edgecolor=colour)


def _short(path: str | None) -> str:
    return (path or "").rpartition(".")[2].replace("_", " ")


def _explain_hollow(axes: Axes, curves: Sequence[_Curve]) -> None:
    if not all(fits for curve in curves for fits in curve.fits):
        hollow = axes.scatter([], [], marker="o", s=26, linewidth=1.4, label="hollow: does not fit in memory")
        hollow.set(facecolor="white", edgecolor="0.45")


def _once(axes: Axes, name: str) -> str | None:
    return None if name in axes.get_legend_handles_labels()[1] else name


def _draw_published(axes: Axes, table: SweepTable, positions: _Positions, series: Sequence[object]) -> None:
    for point in table.sweep.published:
        is_of_a_curve = point.series is not None and point.series in series
        marker = _MARKERS[series.index(point.series) % len(_MARKERS)] if is_of_a_curve else "*"
        size = _PUBLISHED_SIZE if is_of_a_curve else 2 * _PUBLISHED_SIZE
        name = _once(axes, f"published: {point.source}")
        y = axis_value(table.sweep.y, point.y)
        star = axes.scatter(
            [positions.of(point.x)], [y], marker=marker, s=size, color=BLACK, zorder=5, label=name
        )
        star.set(edgecolor="white", linewidth=0.7)


def _scale(axes: Axes, positions: _Positions) -> None:
    low, high = axes.get_ylim()
    axes.set_ylim(0 if low < 0.75 * high else low - 0.35 * (high - low), high + 0.05 * (high - low))
    places = [positions.of(value) for value in positions.values]
    axes.update_datalim([(place, 0) for place in places], updatey=False)
    if positions.are_numbers:
        if positions.are_logarithmic:
            axes.set_xscale("log", base=2)
        if len(positions.values) <= 12:
            axes.xaxis.set_major_locator(FixedLocator(places))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:,g}"))
    else:
        axes.set_xticks(places, [_word(value) for value in positions.values])


def _word(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _mark_impossible(axes: Axes, table: SweepTable, positions: _Positions) -> None:
    """Put a cross on the axis where a point is not possible, so that a gap in a curve is no riddle."""
    missing: list[SweepPoint] = [point for point in table.points if point.result is None]
    if missing:
        x = [positions.of(point.settings[table.sweep.x]) for point in missing]
        across = axes.get_xaxis_transform()
        name = f"not possible ({len(missing)})"
        axes.scatter(
            x, [0.0] * len(x), marker="x", s=24, color="0.45", transform=across, clip_on=False, label=name
        )
