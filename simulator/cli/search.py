"""``simulator search``: the best layout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from simulator import files
from simulator.cli.progress import told
from simulator.cli.screen import check_one_result, common, show, show_json, show_text, warn
from simulator.cli.settings import NO_SETTINGS, Json, OutputPath, ScenarioPath, Settings
from simulator.errors import InputError
from simulator.explore.execute import Backend
from simulator.explore.search import SearchTable, search
from simulator.reports.output import check_writable, write_whole
from simulator.reports.parquet import check_parquet, parquet_bytes
from simulator.reports.save import FIGURE_SUFFIXES, save_curve
from simulator.scenario import Scenario
from simulator.scenario.search import AXES, NAMES, USUAL

_DP = "parallelism.dp"
Names = Annotated[list[str] | None, Parameter(negative=(), show_default=False)]


def search_command(
    file: ScenarioPath,
    /,
    *,
    settings: Settings = NO_SETTINGS,
    free: Names = None,
    fix: Names = None,
    rank_by: Literal["throughput", "cost", "gpus"] | None = None,
    top: int | None = None,
    front: Literal["none", "memory", "gpus"] | None = None,
    tokens_per_s: float | None = None,
    days: float | None = None,
    csv: OutputPath | None = None,
    parquet: Path | None = None,
    as_json: Json = False,
    plot: Path | None = None,
    jobs: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
    backend: str = "local",
) -> int:
    """Find the best layout: all that may win are simulated, the others are shown to lose.

    Without a 'search:' block in the file, tp, pp, vpp, cp, ep, layers, sharding, sequence_parallel, mbs and
    recompute are free. A setting given here stays as it is. Exit code 1: no layout is possible and fits.

    Args:
        file: Scenario file; - reads standard input.
        settings: Settings that replace those of the file; the search does not change them.
        free: Also choose this setting: schedule, or schedule=1f1b,zb-h1 to choose from; may be repeated.
        fix: Leave this setting as the file has it; may be repeated.
        rank_by: throughput, cost (GPU hours or dollars per token), or gpus (fewest that reach the target).
        top: How many of the best to show; default 10.
        front: Also show layouts that no other beats in both throughput and peak memory, or number of GPUs.
        tokens_per_s: Leave out layouts that train on fewer tokens per second.
        days: Leave out layouts that take longer for all of training.tokens.
        csv: Write the best layouts to this CSV file; - prints it instead of the table for people.
        parquet: Write the best layouts to this .parquet file.
        as_json: Print everything as JSON.
        jobs: Local processes.
        backend: local, or a cluster's scheduler: dask:ADDRESS or ray:ADDRESS.
        plot: Draw throughput over memory into this .png, .pdf or .svg file.
    """
    to_stdout = csv is not None and str(csv) == "-"
    check_one_result(as_csv=to_stdout, as_json=as_json)
    if csv is not None and not to_stdout:
        check_writable(csv)
    if plot is not None:
        check_writable(plot, FIGURE_SUFFIXES)
    if parquet is not None:
        check_parquet(parquet)
    where = Backend.parse(backend, jobs)
    wishes = {
        "rank_by": rank_by,
        "top": top,
        "front": front,
        "tokens_per_s": tokens_per_s,
        "days": days,
    }
    scenario = _scenario(
        file,
        settings.overrides(),
        [f"search.{name}={value}" for name, value in wishes.items() if value is not None],
        free or [],
        fix or [],
    )
    with told() as progress:
        table = search(scenario, progress=progress, backend=where)
    warn(_warnings(table))
    _print(table, as_json=as_json, as_csv=to_stdout)  # before anything that a full disk prevents
    if csv is not None and not to_stdout:
        write_whole(csv, table.to_csv().encode())
    if parquet is not None:
        write_whole(parquet, parquet_bytes(table.rows()))
    if plot is not None and table.simulated:
        save_curve(table, plot)
    elif plot is not None:
        warn([f"{plot} is not drawn: no layout was simulated that fits"])
    return 0 if table.best else 1


def _warnings(table: SearchTable) -> Iterator[str]:
    """Say what changes nothing, and what the best layouts warn of besides what the search chose."""
    yield from files.unused_by_search(table.scenario, table.search)
    mine = ("simulation.", *table.search.free)
    yield from common(
        [
            [text for text in each.result.scenario.warnings if not text.startswith(mine)]
            for each in table.best
        ],
        "best layouts",
    )


def _scenario(
    file: str, overrides: list[str], wishes: list[str], free: list[str], fix: list[str]
) -> Scenario:
    """Load a file with what the command line frees, fixes and wishes."""
    chosen = [_freed(text) for text in free]
    named = {path for path, _ in chosen}
    if both := named.intersection(NAMES.get(name, name) for name in fix):
        raise InputError(f"--free and --fix say the opposite of {', '.join(sorted(both))}")
    stays = [path for path in (NAMES.get(name, name) for name in fix) if path not in named]
    stays += [path for path in (text.partition("=")[0] for text in overrides) if _is_kept(path, named)]
    if not chosen and not stays:
        return files.load(file, overrides=[*overrides, *wishes], searched=True)
    scenario = files.load(file, overrides=overrides, searched=True)
    before = {AXES[name]: None for name in USUAL} if scenario.search is None else scenario.search.free
    stays += [AXES[name] for name in USUAL if AXES[name] not in before and AXES[name] not in named]
    kept = [(path, "auto" if values is None else json.dumps(values)) for path, values in before.items()]
    frees = [f"search.free.{path}={values}" for path, values in [*kept, *chosen] if path != _DP]
    fixes = f"search.fix={json.dumps(list(dict.fromkeys(stays)))}"
    every = [*overrides, *wishes, *frees, fixes]
    if file == "-":  # standard input is read once
        content = {**scenario.document, "name": scenario.name}
        return files.from_document(content, overrides=every, searched=True)
    return files.load(file, overrides=every, searched=True)


def _freed(text: str) -> tuple[str, str]:
    """Read ``schedule`` or ``schedule=1f1b,zb-h1``."""
    name, given, values = text.partition("=")
    path = NAMES.get(name.strip(), name.strip())
    if not given:
        return path, "auto"
    return path, values if values.strip().startswith("[") else f"[{values}]"


def _is_kept(path: str, freed: set[str]) -> bool:
    """Tell whether a setting of the command line is one that a search would choose."""
    return path not in freed and (path in AXES.values() or path == _DP)


def _print(table: SearchTable, *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        show_json(table.to_dict())
    elif as_csv:
        show_text(table.to_csv())
    else:
        from simulator.reports.search_table import search_table

        show(search_table(table))
