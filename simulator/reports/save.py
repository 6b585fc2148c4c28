"""Results as files: trace, picture of the pipeline, curve of a sweep. Each appears whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simulator.reports.output import check_writable, write_whole
from simulator.units import format_time

if TYPE_CHECKING:
    import os

    from simulator.explore import SweepTable
    from simulator.explore.search import SearchTable
    from simulator.results.result import Result

TRACE_SUFFIXES = (".json", ".json.gz")
FIGURE_SUFFIXES = (".png", ".pdf", ".svg")


def save_trace(result: Result, path: str | os.PathLike[str]) -> None:
    """Write a result's timeline as a Chrome trace for ui.perfetto.dev.

    Args:
        result: What ``simulate`` returned.
        path: A ``.json`` or ``.json.gz`` file.

    Raises:
        InputError: The path cannot be written or has another suffix.
    """
    from simulator.reports.trace import trace_bytes  # noqa: PLC0415 - nobody else needs it

    path = Path(path)
    check_writable(path, TRACE_SUFFIXES)
    compressed = path.suffix == ".gz"
    write_whole(path, trace_bytes(result.timeline, name=result.scenario.name, compressed=compressed))


def save_timeline(result: Result, path: str | os.PathLike[str]) -> None:
    """Draw a result's pipeline into a ``.png``, ``.pdf`` or ``.svg`` file.

    Raises:
        InputError: The path cannot be written or has another suffix.
    """
    from simulator.reports.derived import layout_text  # noqa: PLC0415 - as below
    from simulator.reports.figure import figure_bytes  # noqa: PLC0415 - matplotlib takes half a second
    from simulator.reports.timeline_figure import timeline_figure  # noqa: PLC0415 - as above

    path = Path(path)
    check_writable(path, FIGURE_SUFFIXES)
    metrics = result.metrics
    facts = (
        f"{layout_text(result.scenario)}; step {format_time(metrics['step_time_s'])}, "
        f"{metrics['tflops_per_gpu']:.0f} TFLOP/s per GPU, bubble {metrics['bubble_fraction']:.1%}"
    )
    figure = timeline_figure(result.timeline, title=result.scenario.name, subtitle=facts)
    write_whole(path, figure_bytes(figure, path.suffix))


def save_curve(table: SweepTable | SearchTable, path: str | os.PathLike[str]) -> None:
    """Draw a sweep's curve, or a search's throughput over memory, into a ``.png``, ``.pdf`` or ``.svg`` file.

    Raises:
        InputError: The path cannot be written or has another suffix.
    """
    from simulator.explore.search import SearchTable  # noqa: PLC0415 - as above
    from simulator.reports.curve_figure import curve_figure  # noqa: PLC0415 - as above
    from simulator.reports.figure import figure_bytes  # noqa: PLC0415 - as above
    from simulator.reports.search_figure import search_figure  # noqa: PLC0415 - as above

    path = Path(path)
    check_writable(path, FIGURE_SUFFIXES)
    figure = search_figure(table) if isinstance(table, SearchTable) else curve_figure(table)
    write_whole(path, figure_bytes(figure, path.suffix))
