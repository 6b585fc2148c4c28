"""One point of a sweep, as plain data that survives a file and a network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simulator import api, files
from simulator.errors import SimulatorError
from simulator.explore.columns import layout_of, row_of, row_without_result
from simulator.explore.keeper import Label, Records
from simulator.explore.store import run_key

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a worker needs to simulate a point: no objects, so that any process can take it.

    Attributes:
        document: The scenario file's content.
        name: What reports call the scenario.
        settings: Dotted path of each varied setting to its value here.
    """

    document: Mapping[str, object]
    name: str
    settings: Mapping[str, object]

    @property
    def named(self) -> dict[str, object]:
        """The document with its name."""
        return {**self.document, "name": self.name}

    @property
    def overrides(self) -> list[str]:
        """The settings as ``--set`` takes them; JSON is YAML."""
        return [f"{path}={json.dumps(value)}" for path, value in self.settings.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """One point of a sweep.

    Attributes:
        settings: Dotted path of each varied setting to its value here.
        row: Its line of the table; see ``columns``.
        metrics: Every metric by name; empty when the point is not possible.
        result: ``Result.to_dict()``, or None when the point is not possible.
        warnings: What its scenario warns of.
        problem: Why there is no result; empty when there is one.
    """

    settings: Mapping[str, object]
    row: Mapping[str, object]
    metrics: Mapping[str, float]
    result: Mapping[str, object] | None
    warnings: tuple[str, ...] = ()
    problem: str = ""

    @property
    def fits(self) -> bool:
        """Whether it is possible and every rank has enough memory."""
        return bool(self.row["fits"])

    def to_record(self) -> str:
        """Write the point as JSON; numbers keep every bit."""
        content = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(content, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_record(cls, text: str) -> SweepPoint:
        """Read what ``to_record`` wrote."""
        content: dict[str, Any] = json.loads(text)
        return cls(**{**content, "warnings": tuple(content["warnings"])})


def simulate_point(task: Task) -> SweepPoint:
    """Simulate one point; one that breaks a rule (indivisible layers, say) says why."""
    try:
        scenario = files.from_document(task.named, overrides=task.overrides)
        result = api.simulate(scenario, quick=True)
    except SimulatorError as error:
        problem = "; ".join(line.strip() for line in str(error).splitlines())
        base = layout_of(files.from_document(task.named))
        row = {**row_without_result(base, task.settings), "problem": problem}
        return SweepPoint(settings=task.settings, row=row, metrics={}, result=None, problem=problem)
    return SweepPoint(
        settings=task.settings,
        row={**row_of(task.settings, result), "problem": ""},
        metrics=dict(result.metrics),
        result=result.to_dict(),
        warnings=scenario.warnings,
    )


def label_of(task: Task) -> Label:
    """Name a point's record by its scenario's content, or by why its settings make no scenario.

    The varied settings belong to it, for they are columns of the point's row.
    """
    try:
        content = files.from_document(task.named, overrides=task.overrides).digest()
    except SimulatorError as error:
        content = f"{files.from_document(task.named).digest()} {error}"
    return Label(key=run_key(f"{content} {task.overrides}"), name=task.name)


RECORDS = Records(label=label_of, write=SweepPoint.to_record, read=SweepPoint.from_record)
"""How points are kept."""
