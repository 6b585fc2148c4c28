"""Overrides such as ``parallelism.tp=8``: one setting each, with the rules of the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.documents import Document, Place, canonical, known_keys, parse
from simulator.documents.aliases import aliases, fields, item_of, schemas_of
from simulator.errors import Problem, ScenarioError, did_you_mean
from simulator.files.merge import overlay
from simulator.files.scenario_file import ScenarioFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import BaseModel

    from simulator.documents.document import Path


def apply(document: Document, overrides: Iterable[str]) -> Document:
    """Return the document with ``path=value`` settings laid over it, in order.

    Raises:
        ScenarioError: All overrides that are not ``path=value``, name no setting or hold no YAML value.
    """
    problems: list[Problem] = []
    for text in overrides:
        try:
            document = overlay(document, _one(document, text))
        except ScenarioError as error:
            problems += error.problems
    if problems:
        raise ScenarioError(problems)
    return document


def setting_paths(schema: type[BaseModel] = ScenarioFile, prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of every setting, other spellings included."""
    others = aliases(schema)
    for key in known_keys(schema):
        name = others[key][0] if key in others else key
        yield prefix + key
        for inner in schemas_of(fields(schema)[name].annotation):
            yield from setting_paths(inner, f"{prefix}{key}.")


def unknown_setting(path: str) -> str | None:
    """Return why ``path`` names no setting, with the nearest that does; None when it names one."""
    allowed: list[object] = [ScenarioFile]
    for part in path.split("."):
        allowed = [inner for annotation in allowed for inner in _inside(annotation, part)]
    if allowed:
        return None
    return f"{path!r} is not a setting{did_you_mean(path, setting_paths()) or _by_last_word(path)}"


def _inside(annotation: object, key: str) -> list[object]:
    """Return what the annotation allows under a key."""
    found = [item_of(annotation)]
    for schema in schemas_of(annotation):
        others = aliases(schema)
        name = others[key][0] if key in others else key
        if name in fields(schema):
            found.append(fields(schema)[name].annotation)
        elif schema.model_config.get("extra") == "allow":
            found.append(float)
    return [item for item in found if item is not None]


def _by_last_word(path: str) -> str:
    """Suggest ``parallelism.tp`` for ``tp``."""
    last = path.rpartition(".")[2]
    full = [known for known in setting_paths() if known.rpartition(".")[2] == last]
    return f"; did you mean {full[0]!r}?" if full else ""


def _one(document: Document, text: str) -> Document:
    name = f"override {text if len(text) <= 80 else text[:77] + '...'}"
    path, equals, value = text.partition("=")
    path = path.strip()
    if not equals or not path:
        raise ScenarioError([Problem("expected path=value, for example parallelism.tp=8", file=name)])
    why = unknown_setting(path)
    if why is not None:
        raise ScenarioError([Problem(why, file=name)])
    try:
        data = parse(value, name).data
    except ScenarioError as error:
        messages = [Problem(problem.message, path, name) for problem in error.problems]
        raise ScenarioError(messages) from None
    parts = _parts(document, path, name)
    for part in reversed(parts):
        data = {part: data}
    place = Place(name)
    keys: dict[Path, Place] = {tuple(parts[:n]): place for n in range(1, len(parts) + 1)}
    values: dict[Path, Place] = {tuple(parts): place}
    return canonical(Document(data, "", keys, values), ScenarioFile)


def _parts(document: Document, path: str, name: str) -> list[str]:
    """Split a path; the parameters of a sweep and what a search frees are themselves dotted paths."""
    prefix = next((known for known in ("sweep.parameters.", "search.free.") if path.startswith(known)), "")
    parts = [*prefix[:-1].split("."), path[len(prefix) :]] if prefix else path.split(".")
    current: object = document.data
    for depth, part in enumerate(parts[:-1]):
        current = current.get(part) if isinstance(current, dict) else None
        if isinstance(current, str):
            parent = ".".join(parts[: depth + 1])
            message = (
                f"{parent} is the name {current!r}; to change one of its fields, write it inline in the file"
            )
            raise ScenarioError([Problem(message, path, name)])
    return parts
