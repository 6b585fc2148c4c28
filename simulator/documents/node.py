"""A value of a YAML document with its place, before it becomes plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.documents.document import Place

LONGEST_KEY = 200
"""Characters of a key."""


@dataclass(slots=True)
class Node:
    """A list when it has items, a mapping when it has entries, else a scalar."""

    place: Place
    scalar: object = None
    items: list[Node] | None = None
    entries: dict[str, tuple[Place, Node]] | None = None
