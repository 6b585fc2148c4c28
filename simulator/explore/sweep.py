"""A sweep: the same scenario with some settings varied, one simulation per point."""

from __future__ import annotations

import csv
import io
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.errors import InputError, did_you_mean
from simulator.explore.columns import COLUMNS
from simulator.explore.execute import LOCAL, Backend, execute
from simulator.explore.keeper import keeper_of
from simulator.explore.point import RECORDS, SweepPoint, Task, simulate_point
from simulator.explore.shard import WHOLE, Shard
from simulator.results.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from simulator.scenario import Scenario, Sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepTable:
    """All points of a sweep, possible or not, in the order of the scenario file.

    Attributes:
        scenario: What was varied.
        sweep: Which settings, and what to draw.
        points: One per combination (or position) of values.
    """

    scenario: Scenario
    sweep: Sweep
    points: tuple[SweepPoint, ...]

    def rows(self) -> list[dict[str, object]]:
        """Return one row per point: first the columns of Megatron-Bridge's tables, in their order, then ours.

        The last columns are the varied settings that have no column yet, and ``problem``.
        """
        return [dict(point.row) for point in self.points]

    def to_dict(self) -> dict[str, object]:
        """Return the sweep as plain data for JSON: every point with its settings and its whole result."""
        points = [
            {
                "settings": dict(point.settings),
                "problem": point.problem or None,
                "result": point.result,
            }
            for point in self.points
        ]
        named = {
            "name": self.scenario.name,
            "x": self.sweep.x,
            "y": self.sweep.y,
            "series": self.sweep.series,
        }
        return {**named, "rows": self.rows(), "points": points}

    def to_csv(self) -> str:
        """Return the rows as CSV with a header; an unknown value is an empty field."""
        text = io.StringIO()
        rows = self.rows()
        names = list(rows[0]) if rows else list(COLUMNS)
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})
        return text.getvalue()


def _cell(value: object) -> object:
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def settings_of(sweep: Sweep) -> Iterator[dict[str, object]]:
    """Yield the settings of each point: all combinations, the last setting fastest, or position by position.

    >>> from simulator.scenario import Sweep
    >>> list(settings_of(Sweep(parameters={"a": (1, 2), "b": (3, 4)}, together=True, x="a")))
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 4}]
    """
    paths = list(sweep.parameters)
    values = sweep.parameters.values()
    for point in zip(*values, strict=True) if sweep.together else itertools.product(*values):
        yield dict(zip(paths, point, strict=True))


def sweep(
    scenario: Scenario,
    *,
    progress: Callable[[str], None] | None = None,
    backend: Backend = LOCAL,
    store: str | Path | None = None,
    shard: Shard = WHOLE,
) -> SweepTable:
    """Simulate every point of a scenario's ``sweep:`` block.

    A point that breaks a rule (indivisible layers, say) stays in the table with the reason.

    Args:
        scenario: A scenario with a ``sweep:`` block, loaded from a file or a document.
        progress: Called after each point with a line for people.
        backend: Where points are simulated; see ``execute``.
        store: File that keeps each point as soon as it is done, and gives back what it holds already, so
            that an interrupted sweep goes on where it was.
        shard: Part of the points to take, for job arrays.

    Raises:
        InputError: The scenario has no ``sweep:`` block, or one whose ``y`` is no metric; or the store or the
            backend cannot be used.
    """
    if scenario.sweep is None:
        raise InputError(f"{scenario.name}: no 'sweep:' block says what to vary")
    if scenario.sweep.y not in METRICS:
        near = did_you_mean(scenario.sweep.y, METRICS) or f", but one of {', '.join(METRICS)}"
        raise InputError(f"{scenario.name}: sweep.y: {scenario.sweep.y!r} is no metric{near}")
    every = [
        Task(document=scenario.document, name=scenario.name, settings=settings)
        for settings in settings_of(scenario.sweep)
    ]
    tasks = shard.part(every, "points")
    say = progress or (lambda _: None)
    with keeper_of(store, tasks, RECORDS) as keeper:
        found = keeper.known()
        if found:
            say(f"{len(found)} of {len(tasks)} points are in the store")
        missing = [number for number in range(len(tasks)) if number not in found]
        for position, point in execute(simulate_point, [tasks[number] for number in missing], backend):
            number = missing[position]
            found[number] = point
            keeper.keep(number, point)
            varied = " ".join(tasks[number].overrides)
            say(f"[{len(found)}/{len(tasks)}] {varied}")
    points = tuple(found[number] for number in range(len(tasks)))
    return SweepTable(scenario=scenario, sweep=scenario.sweep, points=points)
