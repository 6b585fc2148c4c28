"""Throughput over memory, or over GPUs, of what a search simulated: the best, the front, the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from simulator.reports.figure import house_style
from simulator.reports.style import BLUE, ORANGE, VERMILLION
from simulator.scenario.search import AXES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from simulator.explore.search import Layout, SearchTable

    Floats = NDArray[np.float64]

_WIDTH_IN, _HEIGHT_IN = 7.2, 4.3
_SHORT = {path: name for name, path in AXES.items()}
_WORDS = {"parallelism.sharding": "", "training.recompute": "recompute "}
"""Settings in words that the label of the best layout names, each with what stands before its value."""


def search_figure(table: SearchTable) -> Figure:
    """Draw every layout that was simulated and fits; the best are named.

    Args:
        table: What a search found; at least one layout was simulated.
    """
    over_gpus = table.search.front == "gpus" or table.search.rank_by == "gpus"
    best = [each.layout for each in table.best]
    with house_style():
        figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), layout="constrained")
        axes = figure.add_subplot()
        x, y = _points(table.simulated, over_gpus=over_gpus)
        axes.scatter(x, y, s=9, color="0.7", linewidth=0, label=f"simulated, fits ({len(x):,})", zorder=2)
        if len(table.front) > 1:
            x, y = _points(table.front, over_gpus=over_gpus)
            axes.plot(x, y, color=BLUE, marker="o", markersize=4, label="front", zorder=3)
        if best:
            x, y = _points(best, over_gpus=over_gpus)
            axes.scatter(x, y, s=22, color=ORANGE, label=f"best {len(best)}", zorder=4)
            _name(axes, best[0], (float(x[0]), float(y[0])))
        if not over_gpus:
            capacity = table.scenario.cluster.gpu.memory_bytes / 2**30
            axes.axvline(capacity, color=VERMILLION, linestyle="--", linewidth=1, label="memory of a GPU")
        axes.set_title(table.scenario.name, pad=20)
        note = (
            f"{table.num_possible:,} layouts, {table.num_simulated:,} simulated; the others cannot be better"
        )
        axes.annotate(note, (0, 1), (0, 7), "axes fraction", "offset points", size=8, color="0.35")
        axes.set_xlabel("GPUs" if over_gpus else "peak memory per GPU (GiB)")
        axes.set_ylabel("tokens/s")
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        low, high = axes.get_ylim()
        axes.set_ylim(max(0.0, low - 0.05 * (high - low)), high + 0.18 * (high - low))
        # Points may lie anywhere, and the memory of a GPU crosses the whole height: no corner is free.
        figure.legend(loc="outside lower center", ncols=4)
    return figure


def _points(layouts: Sequence[Layout], *, over_gpus: bool) -> tuple[Floats, Floats]:
    x = [each.gpus if over_gpus else each.peak_memory_bytes / 2**30 for each in layouts]
    return np.asarray(x, dtype=np.float64), np.asarray([each.tokens_per_s for each in layouts])


def _name(axes: Axes, best: Layout, at: tuple[float, float]) -> None:
    """Write the settings of the best layout beside its point: numbers above one, or all if there is none."""
    counts = {
        path: value
        for path, value in best.settings.items()
        if path in _SHORT and isinstance(value, int) and not isinstance(value, bool)
    }
    above = {path: value for path, value in counts.items() if value > 1}
    numbers = [f"{_SHORT[path]} {value}" for path, value in (above or counts).items()]
    words = [
        f"{prefix}{best.settings[path]}"
        for path, prefix in _WORDS.items()
        if best.settings.get(path, "none") != "none"
    ]
    left = at[0] > np.mean(axes.get_xlim())
    axes.annotate(
        f"best: {', '.join([*numbers, *words])}",
        at,
        (-4 if left else 4, 10),
        textcoords="offset points",
        ha="right" if left else "left",
        size=8,
    )
