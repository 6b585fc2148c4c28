"""YAML 1.2 text to plain data with positions; strict, and safe against hostile input."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

from simulator.documents.document import Document, Path, Place
from simulator.documents.plain import read_plain
from simulator.documents.read import SCENARIO_LIMITS, Limits, read_text
from simulator.errors import ScenarioError

if TYPE_CHECKING:
    from simulator.documents.node import Node


def read(path: str | os.PathLike[str], limits: Limits = SCENARIO_LIMITS) -> Document:
    """Read and parse a YAML file; ``-`` is standard input.

    Raises:
        ScenarioError: The file cannot be read, or is not one strict YAML document.
    """
    name = os.fspath(path)
    text = read_text(name, limits)
    return parse(text, "standard input" if name == "-" else name, limits)


def parse(text: str, name: str = "", limits: Limits = SCENARIO_LIMITS) -> Document:
    r"""Parse YAML text.

    Duplicate keys, tags, merge keys, a second document, self-containing aliases and anything beyond
    ``limits`` are errors. Keys are text as written, so ``1:`` is the key ``"1"``.

    Raises:
        ScenarioError: All such problems.

    >>> document = parse("a:\n  b: [1, 2 GB]", "x.yaml")
    >>> document.data, document.values["a", "b", 1].column
    ({'a': {'b': [1, '2 GB']}}, 10)
    """
    root = read_plain(text, name, limits) or _composed(text, name, limits)
    if root is None:
        return Document(None, name)
    return _Expansion(name, limits).document(root)


def _composed(text: str, name: str, limits: Limits) -> Node | None:
    from simulator.documents.compose import Composer  # noqa: PLC0415  most files need no YAML parser

    return Composer(text, name, limits).root()


class _Expansion:
    """Turns nodes into plain data; an alias is copied, so the number of nodes is counted again."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.name, self.limits = name, limits
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}

    def document(self, root: Node) -> Document:
        return Document(self._data(root, ()), self.name, self.keys, self.values)

    def _data(self, node: Node, path: Path) -> object:
        self.values[path] = node.place
        if len(self.values) > self.limits.nodes:
            self._stop(f"more than {self.limits.nodes} values once aliases are expanded", node.place)
        if len(path) > self.limits.depth:
            self._stop(f"nested deeper than {self.limits.depth} levels", node.place)
        if node.items is not None:
            return [self._data(item, (*path, index)) for index, item in enumerate(node.items)]
        if node.entries is not None:
            for key, (place, _) in node.entries.items():
                self.keys[(*path, key)] = place
            return {key: self._data(value, (*path, key)) for key, (_, value) in node.entries.items()}
        return node.scalar

    def _stop(self, message: str, place: Place) -> NoReturn:
        raise ScenarioError([place.problem(message)])
