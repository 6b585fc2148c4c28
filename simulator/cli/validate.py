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
from simulator.cli.check import yaml_text
from simulator.cli.progress import counted
from simulator.cli.screen import show_json, show_text
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
    show: Annotated[str | None, Parameter(name="--show", negative=())] = None,
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
        show: Print the scenario that one row becomes, every assumption made, and its prediction.
    """
    if plot is not None:
        check_writable(plot, FIGURE_SUFFIXES)
    if show is not None:
        return _show_row(show, paths or [validation.PUBLISHED], engine, as_json=as_json)
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


def _show_row(row: str, paths: list[Path], engine: Literal["event", "compiled"], *, as_json: bool) -> int:
    shown = validation.shown_row(paths, row, simulate=partial(_simulate, engine=engine))
    if as_json:
        show_json(shown.to_dict())
    else:
        comments = "".join(f"# {line}".rstrip() + "\n" for line in shown.lines())
        show_text(comments + yaml_text(shown.document))
    return 0
