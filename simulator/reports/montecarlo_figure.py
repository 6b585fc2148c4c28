"""The distribution of step times as a histogram."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from simulator.reports.figure import house_style
from simulator.reports.style import BLACK, CURVE_COLOURS
from simulator.units import format_time

if TYPE_CHECKING:
    from simulator.explore.montecarlo import MonteCarlo

_ALIKE = 1e-9
"""Relative difference up to which steps are the same."""
_WIDTH_IN, _HEIGHT_IN = 6.4, 3.8


def montecarlo_figure(found: MonteCarlo) -> Figure:
    """Draw how often steps take how long, and their mean."""
    unit, scale = ("s", 1.0) if found.mean_s >= 1 else ("ms", 1e3)
    times = found.step_times_s * scale
    with house_style():
        figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), layout="constrained")
        axes = figure.add_subplot()
        bins: str | list[float] = "auto"
        if np.ptp(times) <= _ALIKE * times.mean():  # numpy's only bin would be a second wide
            bins = [0.999 * times.mean(), 1.001 * times.mean()]
            axes.set_xlim(0.98 * times.mean(), 1.02 * times.mean())
        axes.hist(times, bins=bins, color=CURVE_COLOURS[0], edgecolor="white", linewidth=0.6)
        axes.axvline(found.mean_s * scale, color=BLACK, linewidth=1.0)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=f"step time ({unit})", ylabel=f"steps, of {len(times):,}")
        axes.set_title(found.scenario.name, pad=20)
        note = f"mean {format_time(found.mean_s)} (line); with all GPUs alike {format_time(found.quiet_s)}"
        axes.annotate(note, (0, 1), (0, 7), "axes fraction", "offset points", size=8, color="0.35")
    return figure
