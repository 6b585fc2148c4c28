"""An entry for people: every number with its unit, kind and source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from simulator.catalogue.collectives import collective_fractions
from simulator.catalogue.kernels import fitted_document
from simulator.catalogue.lookup import document, find
from simulator.catalogue.software_entry import SoftwareEntry
from simulator.catalogue.training import training_clocks

_NOT_NUMBERS = frozenset({"sources", "aliases", "name", "title", "source", "matches", "nearest_for"})


class Row(NamedTuple):
    """One number of an entry.

    Attributes:
        field: Its path in the entry's file.
        value: The number as written there, with its unit.
        kind: ``datasheet``, ``measured``, ``fitted`` or ``assumed``; empty for a word such as ``fat-tree``.
        source: Citation; empty for a word.
    """

    field: str
    value: str
    kind: str
    source: str


def describe(kind: str, name: str) -> tuple[Row, ...]:
    """Return every number of a catalogue entry with its source.

    Args:
        kind: ``gpu``, ``network``, ``model`` or ``software``.
        name: Any name of the entry.

    Raises:
        CatalogueError: There is no such entry.

    >>> describe("gpu", "h100")[0][:3]
    ('peak.fp32', '67 TFLOP/s', 'datasheet')
    """
    data = document(kind, name).data
    assert isinstance(data, Mapping)  # noqa: S101  the catalogue's own file
    if kind == "software":
        data = {**SoftwareEntry.typical(), **data, **SoftwareEntry.fitted(name)}
    rows = list(_entry_rows(data))
    if kind.removesuffix("s") == "gpu":
        name = find(kind, name)
        rows += (
            Row(f"collectives.{key}", _text(number.value), number.kind, number.source)
            for key, number in collective_fractions(name).items()
        )
        rows += _entry_rows(fitted_document(name))
        rows += (
            Row(f"training_clock.{key}", _text(number.value), number.kind, number.source)
            for key, number in training_clocks(name).items()
        )
    return tuple(rows)


def _entry_rows(data: Mapping[str, object]) -> Iterator[Row]:
    citations = data.get("sources")
    source = str(data.get("source", ""))
    origin = ("datasheet" if source else "", source)
    yield from _rows(data, "", citations if isinstance(citations, Mapping) else {}, origin)


def _rows(node: object, path: str, citations: Mapping[str, object], origin: tuple[str, str]) -> Iterator[Row]:
    if isinstance(node, Mapping) and "value" in node:
        yield Row(path, _text(node["value"]), *_origin(node, citations))
    elif isinstance(node, Mapping):
        for key, item in node.items():
            if key not in _NOT_NUMBERS:
                yield from _rows(item, f"{path}.{key}" if path else key, citations, origin)
    elif isinstance(node, list) and any(isinstance(item, Mapping) for item in node):
        for i, item in enumerate(node):
            label = item.get("name", i) if isinstance(item, Mapping) else i
            yield from _rows(item, f"{path}.{label}", citations, origin)
    else:
        yield Row(path, _text(node), *origin)


def _origin(number: Mapping[str, object], citations: Mapping[str, object]) -> tuple[str, str]:
    source = str(number.get("source", ""))
    citation = citations.get(source)
    cited = citation if isinstance(citation, Mapping) else {}
    return str(number.get("kind", cited.get("kind", "datasheet"))), str(cited.get("text", source))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
