"""A parsed document: plain data, and where each piece of it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file, for error messages.

    Attributes:
        file: Name of the file as the user wrote it.
        line: Line, counted from 1; 0 when the input is no file.
        column: Column, counted from 1.
        excerpt: The line itself.
    """

    file: str = ""
    line: int = 0
    column: int = 0
    excerpt: str = ""

    def problem(self, message: str, path: str = "") -> Problem:
        """Return a problem that points here."""
        return Problem(message, path, self.file, self.line, self.column, self.excerpt)


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None) and the places of its keys and values.

    Attributes:
        data: The content.
        name: Name of the file as the user wrote it; empty when the content is no file.
        keys: Place of each mapping key, by its path.
        values: Place of each value, by its path; the path of the whole content is ``()``.
    """

    data: object
    name: str = ""
    keys: Mapping[Path, Place] = field(default_factory=dict)
    values: Mapping[Path, Place] = field(default_factory=dict)

    def key_place(self, path: Path) -> Place:
        """Return the place of the key at ``path``, or of its nearest known parent."""
        return self._nearest(path, self.keys, self.values)

    def value_place(self, path: Path) -> Place:
        """Return the place of the value at ``path``, or of its nearest known parent."""
        return self._nearest(path, self.values, self.keys)

    def _nearest(self, path: Path, *tables: Mapping[Path, Place]) -> Place:
        for table in tables:
            if path in table:
                return table[path]
        for length in range(len(path) - 1, 0, -1):
            for table in (self.keys, self.values):
                if path[:length] in table:
                    return table[path[:length]]
        return self.values.get((), Place(self.name))


def dotted(path: Path) -> str:
    """Write a path as users do.

    >>> dotted(("sweep", "published", 0, "x"))
    'sweep.published[0].x'
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text
