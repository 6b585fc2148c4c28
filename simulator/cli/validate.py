"""``simulator validate``: predicted beside published."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from simulator import api, validation
from simulator.cli.progress import counted
from simulator.cli.screen import show_json
from simulator.cli.settings import Flag, Json
from simulator.reports.output import check_writable, write_whole
from simulator.reports.save import FIGURE_SUFFIXES
from simulator.results.result import Result
from simulator.scenario import Scenario


def validate_command(
    paths: list[Path] | None = None,
    /,
    *,
    as_json: Json = False,
    all_rows: Annotated[bool, Parameter(name="--all", negative=(), show_default=False)] = False,
    limit: int | None = None,
    engine: Literal["event", "compiled"] = "event",
    leave_one_out: Flag = False,
    jobs: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
    plot: Path | None = None,
) -> int:
    """Compare predictions with published results, row by row, source by source.

    Args:
        paths: Files of published rows, or folders of them; the published runs of the package when left out.
        as_json: Print summary and rows as JSON instead of tables.
        all_rows: Print every row instead of the worst ones.
        limit: Only so many rows, the first ones.
        engine: event, or compiled: faster, but without transfers that share links.
        leave_one_out: Simulate every row once more with constants that were fitted without its source.
        jobs: Processes that share the work.
        plot: Draw predicted over published throughput into this .png, .pdf or .svg file.
    """
    if plot is not None:
        check_writable(plot, FIGURE_SUFFIXES)
    with counted("rows") as progress:
        report = validation.validate(
            paths or [validation.PUBLISHED],
            limit=limit,
            progress=progress,
            simulate=partial(_simulate, engine=engine),
            leave_one_out=leave_one_out,
            jobs=jobs,
            with_components=not paths,
        )
    if plot is not None:
        _write_plot(report, plot)
    if as_json:
        show_json(report.to_dict())
    else:
        validation.render(report, sys.stdout, all_rows=all_rows)
    return 0


def _simulate(scenario: Scenario, engine: Literal["event", "compiled"]) -> Result:
    return api.simulate(replace(scenario, engine=engine), quick=True)


def _write_plot(report: validation.ValidationReport, path: Path) -> None:
    from simulator.reports.figure import figure_bytes
    from simulator.reports.validation_figure import validation_figure

    rows = [row.to_dict() for row in report.rows]
    write_whole(path, figure_bytes(validation_figure(rows), path.suffix))
