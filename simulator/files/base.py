"""``base: other.yaml``: a file that changes another one."""

from __future__ import annotations

from pathlib import Path

from simulator.documents import Document, Place, canonical, read
from simulator.errors import ScenarioError
from simulator.files.flat_model import nested_model
from simulator.files.merge import overlay, without
from simulator.files.scenario_file import ScenarioFile

_NOT_INHERITED = ("measured",)
"""A published result belongs to the set-up it was measured on, not to variations of it."""


def with_base(document: Document, seen: tuple[Path, ...] = ()) -> Document:
    """Return the document with the files it is based on laid under it, keys in the schema's spelling.

    Args:
        document: A parsed scenario file.
        seen: Files that led here, to find circles.

    Raises:
        ScenarioError: A base cannot be read, is not YAML, or is based on itself.
    """
    if not isinstance(document.data, dict):
        return document
    document = canonical(nested_model(document), ScenarioFile)
    data = document.data
    base = data.get("base") if isinstance(data, dict) else None
    if not isinstance(base, str) or not base:
        return document
    place = document.value_place(("base",))
    path = beside(place, base)
    if path.resolve() in seen:
        chain = " -> ".join(file.name for file in (*seen[seen.index(path.resolve()) :], path))
        raise ScenarioError([place.problem(f"files are based on each other in a circle: {chain}", "base")])
    try:
        parsed = read(path)
    except ScenarioError as error:
        first = error.problems[0]
        if first.line:
            raise
        raise ScenarioError([place.problem(f"{path} {first.message}", "base")]) from None
    if not isinstance(parsed.data, dict):
        raise ScenarioError([place.problem(f"{path} is not a scenario file", "base")])
    below = with_base(parsed, (*seen, path.resolve()))
    return overlay(without(below, *_NOT_INHERITED), without(document, "base"))


def beside(place: Place, path: str) -> Path:
    """Return a path that a file names, relative to that file."""
    folder = Path(place.file).parent if place.line and place.file != "standard input" else Path()
    return folder / Path(path).expanduser()
