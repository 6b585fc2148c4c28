"""``simulator validate``: predicted beside published."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from simulator import api, validation
from simulator.cli.screen import note, show_json
from simulator.cli.settings import Json
from simulator.reports.output import check_writable, write_whole
from simulator.reports.save import FIGURE_SUFFIXES


def validate_command(
    paths: list[Path] | None = None,
    /,
    *,
    as_json: Json = False,
    all_rows: Annotated[bool, Parameter(name="--all", negative=(), show_default=False)] = False,
    limit: int | None = None,
    engine: Literal["event", "compiled"] = "event",
    plot: Path | None = None,
) -> int:
    """Compare predictions with published results, row by row, source by source.

    Args:
        paths: Files of published rows, or folders of them; the published runs of the package when left out.
        as_json: Print summary and rows as JSON instead of tables.
        all_rows: Print every row instead of the worst ones.
        limit: Only so many rows, the first ones.
        engine: event, or compiled: faster, but without transfers that share links.
        plot: Draw predicted over published throughput into this .png, .pdf or .svg file.
    """
    if plot is not None:
        check_writable(plot, FIGURE_SUFFIXES)
    report = validation.validate(
        paths or [validation.PUBLISHED],
        limit=limit,
        progress=_progress if sys.stderr.isatty() else None,
        with_components=not paths,
        simulate=lambda scenario: api.simulate(replace(scenario, engine=engine), quick=True),
    )
    if plot is not None:
        _write_plot(report, plot)
    if as_json:
        show_json(report.to_dict())
    else:
        validation.render(report, sys.stdout, all_rows=all_rows)
    return 0


def _write_plot(report: validation.ValidationReport, path: Path) -> None:
    from simulator.reports.figure import figure_bytes
    from simulator.reports.validation_figure import validation_figure

    rows = [row.to_dict() for row in report.rows]
    write_whole(path, figure_bytes(validation_figure(rows), path.suffix))


def _progress(done: int, rows: int) -> None:
    if done % 100 == 0 or done == rows:
        note(f"[{done}/{rows}] rows")
