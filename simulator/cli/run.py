"""``simulator run``: one training step."""

from __future__ import annotations

from pathlib import Path

from simulator import api, files
from simulator.cli.screen import note, show, show_json, warn
from simulator.cli.settings import NO_TIMED_SETTINGS, Json, ScenarioPath, TimedSettings
from simulator.reports.output import check_writable
from simulator.reports.save import FIGURE_SUFFIXES, TRACE_SUFFIXES, save_timeline, save_trace


def run_command(
    file: ScenarioPath,
    /,
    *,
    settings: TimedSettings = NO_TIMED_SETTINGS,
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
        save_trace(result, trace)
    if timeline is not None:
        save_timeline(result, timeline)
    warn(result.warnings)
    if as_json:
        show_json(result.to_dict())
    else:
        from simulator.reports.table import result_table

        show(result_table(result))
    if trace is not None:
        from simulator.reports.trace import left_out

        warn(filter(None, [left_out(result.timeline)]))
        note(f"open {trace} at https://ui.perfetto.dev")
    return 0
