"""The measured parts of a step that ship with the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Literal, cast

from simulator.documents import parse
from simulator.files import from_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.scenario import Scenario

Kind = Literal["experts", "layer", "exchange", "attention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A part of a step, and how long it took.

    Attributes:
        id: Its name.
        source: Citation.
        kind: Which part of a layer.
        clock: Clock of the matrix units over that of the datasheet's peak; 1 where they had settled.
        scenario: What was run.
        measured: By pass, seconds or FLOP/s as text with a unit.
    """

    id: str
    source: str
    kind: Kind
    clock: float
    scenario: Scenario
    measured: Mapping[str, str]


def read_components() -> tuple[Component, ...]:
    """Return all measured parts of the package."""
    text = (files("simulator.validation.components") / "measured.yaml").read_text("utf-8")
    groups = cast("list[dict[str, object]]", parse(text, "components/measured.yaml").data)
    return tuple(component for group in groups for component in _group(group))


def _group(group: Mapping[str, object]) -> list[Component]:
    rows = cast("list[dict[str, object]]", group["rows"])
    document = cast("dict[str, object]", group["scenario"])
    return [
        Component(
            id=str(row["id"]),
            source=str(group["source"]),
            kind=cast("Kind", group["kind"]),
            clock=float(str(group.get("clock", 1.0))),
            scenario=from_document(document, str(row["id"]), cast("list[str]", row.get("set", []))),
            measured=cast("dict[str, str]", row["measured"]),
        )
        for row in rows
    ]
