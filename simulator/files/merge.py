"""Laying one document over another; every value keeps pointing at the file it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.documents import Document, Place

if TYPE_CHECKING:
    from simulator.documents.document import Path


def overlay(below: Document, above: Document) -> Document:
    """Return ``below`` with the values of ``above``: mappings are joined, everything else is replaced.

    Args:
        below: For example a base file; keys in the schema's own spelling.
        above: For example the file that names it, or an override.
    """
    merging = _Merging(below, above)
    data = merging.join(below.data, above.data, ())
    return Document(data, above.name or below.name, merging.keys, merging.values)


def without(document: Document, *names: str) -> Document:
    """Return the document without some of its top-level keys."""
    if not isinstance(document.data, dict):
        return document
    data = {key: value for key, value in document.data.items() if key not in names}
    return Document(data, document.name, document.keys, document.values)


class _Merging:
    def __init__(self, below: Document, above: Document) -> None:
        self.above = above
        self.keys: dict[Path, Place] = dict(below.keys)
        self.values: dict[Path, Place] = dict(below.values)

    def join(self, below: object, above: object, path: Path) -> object:
        if not (isinstance(below, dict) and isinstance(above, dict)):
            self._replace(path)
            return above
        joined = dict(below)
        for key, value in above.items():
            inner = (*path, key)
            joined[key] = self.join(below[key], value, inner) if key in below else value
            if inner in self.above.keys:
                self.keys[inner] = self.above.keys[inner]
            if key not in below:
                self._replace(inner)
        return joined

    def _replace(self, path: Path) -> None:
        """Take the places at and below ``path`` from the upper document alone."""
        for table, source in ((self.keys, self.above.keys), (self.values, self.above.values)):
            for old in [old for old in table if old[: len(path)] == path]:
                if len(old) > len(path):
                    del table[old]
            table |= {new: place for new, place in source.items() if new[: len(path)] == path}
