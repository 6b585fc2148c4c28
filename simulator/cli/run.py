"""``simulator run``: one training step."""

from __future__ import annotations

from pathlib import Path

from simulator import api, files
from simulator.cli.screen import note, show, show_json, warn
from simulator.cli.settings import FIGURE_SUFFIXES, NO_SETTINGS, TRACE_SUFFIXES, Json, ScenarioPath, Settings
from simulator.reports.output import check_writable, write_whole
from simulator.results.result import Result
from simulator.units import format_time


def run_command(
    file: ScenarioPath,
    /,
    *,
    settings: Settings = NO_SETTINGS,
    as_json: Json = False,
    trace: Path | None = None,
    timeline: Path | None = None,
) -> int:
    """Simulate one training step: speed, where the time goes, memory.

    Args:
        file: Scenario file; - reads standard input.
        settings: Settings that replace those of the file.
        as_json: Print the result as JSON instead of a table.
        trace: Write a Chrome trace for ui.perfetto.dev to this .json or .json.gz file.
        timeline: Draw the pipeline into this .png, .pdf or .svg file.
    """
    if trace is not None:
        check_writable(trace, TRACE_SUFFIXES)
    if timeline is not None:
        check_writable(timeline, FIGURE_SUFFIXES)
    result = api.simulate(files.load(file, overrides=settings.overrides()))
    if trace is not None:
        _write_trace(result, trace)
    if timeline is not None:
        _write_timeline(result, timeline)
    warn(result.warnings)
    if as_json:
        show_json(result.to_dict())
    else:
        from simulator.reports.table import result_table

        show(result_table(result))
    if trace is not None:
        note(f"open {trace} at https://ui.perfetto.dev")
    return 0


def _write_trace(result: Result, path: Path) -> None:
    from simulator.reports.trace import left_out, trace_bytes

    missing = left_out(result.timeline)
    if missing:
        warn([f"{path}: {missing}"])
    name = result.scenario.name
    write_whole(path, trace_bytes(result.timeline, name=name, compressed=path.suffix == ".gz"))


def _write_timeline(result: Result, path: Path) -> None:
    from simulator.reports.derived import layout_text
    from simulator.reports.figure import figure_bytes
    from simulator.reports.timeline_figure import timeline_figure

    metrics = result.metrics
    facts = (
        f"{layout_text(result.scenario)}; step {format_time(metrics['step_time_s'])}, "
        f"{metrics['tflops_per_gpu']:.0f} TFLOP/s per GPU, bubble {metrics['bubble_fraction']:.1%}"
    )
    figure = timeline_figure(result.timeline, title=result.scenario.name, subtitle=facts)
    write_whole(path, figure_bytes(figure, path.suffix))
