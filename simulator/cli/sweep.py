"""``simulator sweep``: many points of one scenario."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from simulator import files
from simulator.cli.progress import kept, told
from simulator.cli.screen import check_one_result, common, show, show_json, show_text, warn
from simulator.cli.settings import NO_TIMED_SETTINGS, Json, OutputPath, ScenarioPath, TimedSettings
from simulator.explore import SweepTable, sweep
from simulator.explore.execute import Backend
from simulator.explore.shard import Shard
from simulator.reports.output import check_writable, write_whole
from simulator.reports.parquet import check_parquet, parquet_bytes
from simulator.reports.save import FIGURE_SUFFIXES, save_curve


def sweep_command(
    file: ScenarioPath,
    /,
    *,
    settings: TimedSettings = NO_TIMED_SETTINGS,
    csv: OutputPath | None = None,
    parquet: Path | None = None,
    as_json: Json = False,
    plot: Path | None = None,
    store: Path | None = None,
    jobs: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
    backend: str = "local",
    shard: str = "1/1",
) -> int:
    """Simulate every point of the scenario's 'sweep:' block.

    Points that are not possible stay in the table, with the reason. Exit code 1: none is possible.

    Args:
        file: Scenario file; - reads standard input.
        settings: Settings that replace those of the file.
        csv: Write the table to this CSV file; - prints it instead of the table for people.
        as_json: Print the table and all results as JSON.
        plot: Draw the curve into this .png, .pdf or .svg file.
        parquet: Write the table to this .parquet file.
        store: File that keeps every point as soon as it is done; points that it holds are not simulated
            again, so an interrupted sweep goes on where it was.
        jobs: Local processes.
        backend: local, or a cluster's scheduler: dask:ADDRESS or ray:ADDRESS.
        shard: Part i/n of the points, for job arrays: --shard $SLURM_ARRAY_TASK_ID/8.
    """
    to_stdout = csv is not None and str(csv) == "-"
    check_one_result(as_csv=to_stdout, as_json=as_json)
    if csv is not None and not to_stdout:
        check_writable(csv)
    if plot is not None:
        check_writable(plot, FIGURE_SUFFIXES)
    if parquet is not None:
        check_parquet(parquet)
    if store is not None:
        check_writable(store)
    where, part = Backend.parse(backend, jobs), Shard.parse(shard)
    scenario = files.load(file, overrides=settings.overrides())
    with kept(store), told() as progress:
        table = sweep(scenario, progress=progress, backend=where, store=store, shard=part)
    warn(_without_effect(settings.overrides(), table))
    warn(common([point.warnings for point in table.points], "points"))
    _print(table, as_json=as_json, as_csv=to_stdout)  # before anything that a full disk prevents
    if parquet is not None:
        write_whole(parquet, parquet_bytes(table.rows()))
    if csv is not None and not to_stdout:
        write_whole(csv, table.to_csv().encode())
    if plot is not None:
        save_curve(table, plot)
    return 0 if any(point.result is not None for point in table.points) else 1


def _without_effect(overrides: Iterable[str], table: SweepTable) -> Iterator[str]:
    """Say which settings of the command line the sweep replaces in every point."""
    for path in dict.fromkeys(text.partition("=")[0] for text in overrides):
        if path in table.sweep.parameters:
            yield f"{path} has no effect: the sweep varies it"


def _print(table: SweepTable, *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        show_json(table.to_dict())
    elif as_csv:
        show_text(table.to_csv())
    else:
        from simulator.reports.sweep_table import sweep_table

        show(sweep_table(table))
