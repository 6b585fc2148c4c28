"""``simulator schedule``: a pipeline schedule as a picture or in PyTorch's CSV form."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from simulator.cli.screen import show_json, show_text
from simulator.cli.settings import Flag, Json
from simulator.engines.timeline import Timeline
from simulator.errors import InputError, did_you_mean
from simulator.reports.output import check_writable, write_whole
from simulator.reports.save import FIGURE_SUFFIXES
from simulator.schedules import SCHEDULES, Order, Request, StageTimes, passes
from simulator.schedules.chains import faults
from simulator.schedules.csv_form import read_rows, write_rows
from simulator.workload.pipeline import held_stages
from simulator.workload.program import OpKind

_WIDTH = 160
_WIDEST = 100_000


def schedule_command(
    name: str,
    /,
    *,
    pp: int = 4,
    vpp: int | None = None,
    microbatches: int = 8,
    group_size: int | None = None,
    forward: int = 1,
    backward_input: int = 1,
    backward_weight: int = 1,
    csv: Flag = False,
    timeline: Path | None = None,
    as_json: Json = False,
) -> int:
    """Show the order of passes of a pipeline schedule, and how much of the time its ranks idle.

    Args:
        name: A schedule ('simulator list schedules'), or a .csv file with one.
        pp: Pipeline ranks.
        vpp: Model chunks per rank; by default the fewest that the schedule runs.
        microbatches: Micro-batches of a step.
        group_size: Micro-batches that go through a chunk before the next chunk's turn (interleaved ones).
        forward: Length of a forward pass, in units of time.
        backward_input: Length of an input gradient; a whole backward pass is this and the next.
        backward_weight: Length of a weight gradient.
        csv: Print one line per rank with the actions as PyTorch and torchtitan name them.
        timeline: Draw the schedule into this .png, .pdf or .svg file.
        as_json: Print what the picture shows as JSON.
    """
    if timeline is not None:
        check_writable(timeline, FIGURE_SUFFIXES)
    if min(forward, backward_input, backward_weight, pp, microbatches) < 1:
        raise InputError("ranks, micro-batches and lengths are whole numbers from 1 on")
    lengths = (float(forward), float(backward_input), float(backward_weight))
    order = _read(name) if name.endswith(".csv") else _named(name, pp, vpp, microbatches, group_size, lengths)
    if csv:
        show_text("\n".join(write_rows(order)))
        return 0
    stages = 1 + max(action.stage for entries in order for action in passes(entries))
    run = _run(order, _times(stages, lengths))
    if timeline is not None:
        _draw(run, name, timeline)
    if as_json:
        show_json(_facts(name, order, run))
        return 0
    chunks = {
        (rank, stage): chunk
        for rank, held in enumerate(held_stages(order))
        for chunk, stage in enumerate(held)
    }
    show_text(_text(run, chunks))
    show_text(_closing(order, run))
    return 0


def _named(
    name: str,
    pp: int,
    vpp: int | None,
    microbatches: int,
    group_size: int | None,
    lengths: tuple[float, float, float],
) -> Order:
    if name not in SCHEDULES:
        raise InputError(
            f"no schedule {name!r}{did_you_mean(name, SCHEDULES)}; there are {', '.join(sorted(SCHEDULES))}"
        )
    schedule = SCHEDULES[name]
    chunks = schedule.chunks[0] if vpp is None else vpp
    if not schedule.takes_chunks(chunks):
        raise InputError(f"{schedule.chunk_rule()}, not {chunks}")
    request = Request(
        pp=pp,
        vpp=chunks,
        num_microbatches=microbatches,
        group_size=group_size,
        times=_times(pp * chunks, lengths),
    )
    if not schedule.fits(request):
        near = schedule.nearest_microbatches(pp, chunks, microbatches, group_size)
        nearest = f"; nearest: {' or '.join(map(str, near))}" if near else ""
        raise InputError(
            f"{name} needs {schedule.rule}; pp is {pp}, not {microbatches} micro-batches{nearest}"
        )
    return schedule.order(request)


def _times(stages: int, lengths: tuple[float, float, float]) -> StageTimes:
    forward, inputs, weights = ((length,) * stages for length in lengths)
    return StageTimes(forward=forward, backward_input=inputs, backward_weight=weights)


def _read(path: str) -> Order:
    try:
        order = read_rows(line for line in Path(path).read_text("utf-8").splitlines() if line.strip())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None
    actions = [action for entries in order for action in passes(entries)]
    if not actions:
        raise InputError(f"{path} holds no actions")
    stages = 1 + max(action.stage for action in actions)
    problems = faults(order, stages, 1 + max(action.microbatch for action in actions))
    if problems:
        raise InputError(f"{path}: " + "; ".join(problems[:5]))
    return order


def _run(order: Order, times: StageTimes) -> Timeline:
    from simulator.explore.schedule_timeline import schedule_timeline

    return schedule_timeline(order, times)


def _text(run: Timeline, chunks: dict[tuple[int, int], int]) -> str:
    from simulator.reports.schedule_text import schedule_text

    terminal = sys.stdout.isatty()
    return schedule_text(run, chunks, shutil.get_terminal_size((_WIDTH, 24)).columns if terminal else _WIDEST)


def _draw(run: Timeline, name: str, path: Path) -> None:
    from simulator.reports.figure import figure_bytes
    from simulator.reports.timeline_figure import timeline_figure

    ranks = run.program.num_ranks
    figure = timeline_figure(
        run, title=f"{Path(name).stem}, {ranks} ranks", subtitle=_idle_text(run), time_axis="units of time"
    )
    write_whole(path, figure_bytes(figure, path.suffix))


def _idle(run: Timeline) -> float:
    busy = float((run.end_s - run.start_s).sum())
    return 1.0 - busy / (run.makespan_s * run.program.num_ranks)


def _idle_text(run: Timeline) -> str:
    return f"{run.makespan_s:g} units of time, {_idle(run):.1%} idle"


def _most_held(order: Order) -> list[int]:
    """Return, by rank, the most passes of chunks whose activations are held at a time."""
    most = []
    for entries in order:
        held = peak = 0
        for action in passes(entries):
            held += (action.kind is OpKind.FORWARD) - (
                action.kind in {OpKind.BACKWARD, OpKind.BACKWARD_WEIGHT}
            )
            peak = max(peak, held)
        most.append(peak)
    return most


def _closing(order: Order, run: Timeline) -> str:
    return f"{_idle_text(run)}; at most {max(_most_held(order))} chunks of micro-batches held by a rank"


def _facts(name: str, order: Order, run: Timeline) -> dict[str, object]:
    return {
        "schedule": name,
        "ranks": len(order),
        "units": run.makespan_s,
        "idle": _idle(run),
        "held_chunks": _most_held(order),
        "stages": [list(stages) for stages in held_stages(order)],
        "actions": list(write_rows(order)),
    }
