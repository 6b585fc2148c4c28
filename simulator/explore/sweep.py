"""A sweep: the same scenario with some settings varied, one simulation per point."""

from __future__ import annotations

import csv
import io
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator import api, files
from simulator.errors import InputError, SimulatorError
from simulator.explore.columns import COLUMNS, row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from simulator.results.result import Result
    from simulator.scenario import Scenario, Sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """One point of a sweep.

    Attributes:
        settings: Dotted path of each varied setting to its value here.
        result: The simulation, or None when the point is not possible.
        problem: Why there is no result; empty when there is one.
    """

    settings: Mapping[str, object]
    result: Result | None
    problem: str = ""


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
        rows = [row_of(self.scenario, point.settings, point.result) for point in self.points]
        for row, point in zip(rows, self.points, strict=True):
            row["problem"] = point.problem
        return rows

    def to_dict(self) -> dict[str, object]:
        """Return the sweep as plain data for JSON: every point with its settings and its whole result."""
        points = [
            {
                "settings": dict(point.settings),
                "problem": point.problem or None,
                "result": None if point.result is None else point.result.to_dict(),
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


def sweep(scenario: Scenario, *, progress: Callable[[str], None] | None = None) -> SweepTable:
    """Simulate every point of a scenario's ``sweep:`` block.

    A point that breaks a rule (indivisible layers, say) stays in the table with the reason.

    Args:
        scenario: A scenario with a ``sweep:`` block, loaded from a file or a document.
        progress: Called before each point with a line for people.

    Raises:
        InputError: The scenario has no ``sweep:`` block.
    """
    if scenario.sweep is None:
        raise InputError(f"{scenario.name}: no 'sweep:' block says what to vary")
    points = list(settings_of(scenario.sweep))
    done = []
    for number, settings in enumerate(points, start=1):
        if progress is not None:
            varied = ", ".join(f"{path}={_text(value)}" for path, value in settings.items())
            progress(f"[{number}/{len(points)}] {varied}")
        done.append(_simulate_point(scenario, settings))
    return SweepTable(scenario=scenario, sweep=scenario.sweep, points=tuple(done))


def _simulate_point(scenario: Scenario, settings: Mapping[str, object]) -> SweepPoint:
    overrides = [f"{path}={_text(value)}" for path, value in settings.items()]
    try:
        named = {**scenario.document, "name": scenario.name}
        varied = files.from_document(named, overrides=overrides)
        return SweepPoint(settings=settings, result=api.simulate(varied, quick=True))
    except SimulatorError as error:
        problem = "; ".join(line.strip() for line in str(error).splitlines())
        return SweepPoint(settings=settings, result=None, problem=problem)


def _text(value: object) -> str:
    """Write a setting as in ``--set``; JSON is YAML."""
    return json.dumps(value)
