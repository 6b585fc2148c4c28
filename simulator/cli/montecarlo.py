"""``simulator montecarlo``: many steps on GPUs that differ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from simulator import files
from simulator.cli.progress import counted, kept
from simulator.cli.screen import show, show_json, warn
from simulator.cli.settings import NO_SETTINGS, Json, ScenarioPath, Settings
from simulator.reports.output import check_writable, write_whole
from simulator.reports.save import FIGURE_SUFFIXES


def montecarlo_command(
    file: ScenarioPath,
    /,
    *,
    settings: Settings = NO_SETTINGS,
    steps: Annotated[int, Parameter(validator=Number(gte=1))] = 100,
    as_json: Json = False,
    plot: Path | None = None,
    store: Path | None = None,
    jobs: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
    backend: str = "local",
    shard: str = "1/1",
) -> int:
    """Simulate steps on GPUs that differ: 'simulation.noise' says how, every GPU of every replica by itself.

    Args:
        file: Scenario file; - reads standard input.
        settings: Settings that replace those of the file.
        steps: Steps to draw.
        as_json: Print JSON: every step time, and what each straggler costs.
        plot: Draw the distribution of step times into this .png, .pdf or .svg file.
        store: File that keeps steps as soon as they are done; those that it holds are not simulated again,
            so an interrupted run goes on where it was.
        jobs: Local processes; the result does not depend on their number.
        backend: local, or a cluster's scheduler: dask:ADDRESS or ray:ADDRESS.
        shard: Part i/n of the steps, for job arrays that share a store: --shard $SLURM_ARRAY_TASK_ID/8. What
            is printed is of these steps; the same command without --shard then sums them all up.
    """
    from simulator.api import estimate_memory
    from simulator.explore.execute import Backend
    from simulator.explore.montecarlo import monte_carlo
    from simulator.explore.shard import Shard
    from simulator.reports.memory_table import verdict

    if plot is not None:
        check_writable(plot, FIGURE_SUFFIXES)
    if store is not None:
        check_writable(store)
    where, part = Backend.parse(backend, jobs), Shard.parse(shard)
    scenario = files.load(file, overrides=settings.overrides())
    warn(files.unused_by_montecarlo(scenario, steps))
    memory = estimate_memory(scenario)
    warn([verdict(memory)] if not memory.fits else [])
    with kept(store), counted("steps") as progress:
        found = monte_carlo(scenario, steps=steps, progress=progress, backend=where, store=store, shard=part)
    if as_json:
        show_json(found.to_dict())
    else:
        from simulator.reports.montecarlo_table import montecarlo_table

        show(montecarlo_table(found))
    if plot is not None:
        from simulator.reports.figure import figure_bytes
        from simulator.reports.montecarlo_figure import montecarlo_figure

        write_whole(plot, figure_bytes(montecarlo_figure(found), plot.suffix))
    return 0
