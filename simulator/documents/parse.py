"""YAML 1.2 text to plain data with positions; strict, and safe against hostile input.

PyYAML's parser (libyaml where it was built with it) finds the structure, ``plain_scalar`` says what a plain
scalar means: PyYAML itself would take ``no`` for false and ``12:30`` for a number of YAML 1.1.

    text -> events -> nodes with places, aliases share theirs -> Document, aliases copied
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from simulator.documents.document import Document, Path, Place
from simulator.documents.read import SCENARIO_LIMITS, Limits, read_text
from simulator.documents.scalars import plain_scalar
from simulator.errors import Problem, ScenarioError

_Parser: Any = yaml.CLoader if yaml.__with_libyaml__ else yaml.Loader
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\ufeff")
"""What is not printable (YAML 1.2.2, section 5.1), and a byte order mark inside the text."""
_LONGEST_KEY = 200


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
    root = _Composer(text, name, limits).root()
    if root is None:
        return Document(None, name)
    return _Expansion(name, limits).document(root)


@dataclass(slots=True)
class _Node:
    """A list when it has items, a mapping when it has entries, else a scalar."""

    place: Place
    scalar: object = None
    items: list[_Node] | None = None
    entries: dict[str, tuple[Place, _Node]] | None = None


class _StopError(Exception):
    """Composing cannot go on; the problem is already noted."""


class _Composer:
    """Recursive descent over the parser's events; the depth limit bounds the recursion."""

    def __init__(self, text: str, name: str, limits: Limits) -> None:
        self.text, self.name, self.limits = text, name, limits
        self.lines = [*text.splitlines(), ""] if text[-1:] in "\r\n" else text.splitlines()
        self.problems: list[Problem] = []
        self.anchors: dict[str, _Node | None] = {}
        self.nodes = 0

    def root(self) -> _Node | None:
        """Return the content of the only document, or None when there is none.

        Raises:
            ScenarioError: What is wrong with the text.
        """
        root: _Node | None = None
        try:
            self._check_characters()
            root = self._only_document()
        except _StopError:
            pass
        except yaml.MarkedYAMLError as error:
            self._note_syntax(error)
        except (yaml.YAMLError, ValueError) as error:  # PyYAML without libyaml, on impossible escapes
            self._note(f"not valid YAML: {error}", Place(self.name))
        if self.problems:
            raise ScenarioError(self.problems)
        return root

    def _check_characters(self) -> None:
        forbidden = _FORBIDDEN.search(self.text)
        if forbidden:
            before = self.text[: forbidden.start()]
            place = Place(self.name, before.count("\n") + 1, forbidden.start() - before.rfind("\n"))
            self._stop(f"character {forbidden[0]!r} is not allowed in YAML", place)

    def _only_document(self) -> _Node | None:
        parser = _Parser(self.text)
        self.next_event = parser.get_event
        root: _Node | None = None
        while (event := self.next_event()) is not None:
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    self._stop("a second document begins; a file holds one", self._place(event.start_mark))
                root = self._node(self.next_event(), 0)
        return root

    def _node(self, event: Any, depth: int) -> _Node:  # noqa: ANN401  PyYAML's events are untyped
        place = self._place(event.start_mark)
        self.nodes += 1
        if self.nodes > self.limits.nodes:
            self._stop(f"more than {self.limits.nodes} values", place)
        if depth > self.limits.depth:
            self._stop(f"nested deeper than {self.limits.depth} levels", place)
        if isinstance(event, AliasEvent):
            return self._aliased(event, place)
        if event.tag is not None and event.tag != "!":
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")[:60]
            self._note(f"the tag {tag!r} is not supported: write the plain value", place)
        if event.anchor is None:
            return self._content(event, place, depth)
        self.anchors[event.anchor] = None
        node = self.anchors[event.anchor] = self._content(event, place, depth)
        return node

    def _content(self, event: Any, place: Place, depth: int) -> _Node:  # noqa: ANN401
        if isinstance(event, ScalarEvent):
            return _Node(place, scalar=self._scalar(event, place))
        if isinstance(event, SequenceStartEvent):
            items: list[_Node] = []
            while not isinstance(event := self.next_event(), SequenceEndEvent):
                items.append(self._node(event, depth + 1))
            return _Node(place, items=items)
        entries: dict[str, tuple[Place, _Node]] = {}
        while not isinstance(event := self.next_event(), MappingEndEvent):
            key_place = self._place(event.start_mark)
            key = self._key(event, key_place)
            if key in entries:
                first = entries[key][0].line
                self._note(f"the key {key!r} is given twice, first in line {first}", key_place)
            entries[key] = (key_place, self._node(self.next_event(), depth + 1))
        return _Node(place, entries=entries)

    def _scalar(self, event: Any, place: Place) -> object:  # noqa: ANN401
        if not event.implicit[0]:
            return event.value
        try:
            return plain_scalar(event.value)
        except ValueError as error:
            self._note(str(error), place)
            return None

    def _key(self, event: Any, place: Place) -> str:  # noqa: ANN401
        if not isinstance(event, ScalarEvent) or not event.value:
            self._stop("a key must be a word", place)
        if len(event.value) > _LONGEST_KEY:
            self._stop(f"a key of {len(event.value)} characters", place)
        if event.value == "<<" and event.implicit[0]:
            self._note("merge keys ('<<') are not part of YAML 1.2; use 'base: other.yaml'", place)
        return str(event.value)

    def _aliased(self, event: Any, place: Place) -> _Node:  # noqa: ANN401
        if event.anchor not in self.anchors:
            self._stop(f"the alias *{event.anchor[:60]} has no anchor before it", place)
        node = self.anchors[event.anchor]
        if node is None:
            self._stop(f"the alias *{event.anchor[:60]} stands inside its own anchor", place)
        return node

    def _place(self, mark: Any) -> Place:  # noqa: ANN401
        if mark.line >= len(self.lines):  # libyaml ends every text with a line break
            last = self.lines[-1] if self.lines else ""
            return Place(self.name, max(len(self.lines), 1), len(last) + 1, last[:200])
        return Place(self.name, mark.line + 1, mark.column + 1, self.lines[mark.line][:200])

    def _note_syntax(self, error: Any) -> None:  # noqa: ANN401
        mark = error.problem_mark or error.context_mark
        place = self._place(mark) if mark else Place(self.name)
        if "maximum nesting depth" in error.problem:  # libyaml looks ahead before it says what begins
            self._note(f"nested deeper than {self.limits.depth} levels", place)
            return
        what = ", ".join(part for part in (error.context, error.problem) if part)
        if what.endswith("found character that cannot start any token"):
            character = self.lines[mark.line][mark.column]
            what = what.replace("character that", f"character {character!r} that")
        self._note(f"not valid YAML: {what}", place)

    def _note(self, message: str, place: Place) -> None:
        self.problems.append(place.problem(message))

    def _stop(self, message: str, place: Place) -> NoReturn:
        self._note(message, place)
        raise _StopError


class _Expansion:
    """Turns nodes into plain data; an alias is copied, so the number of nodes is counted again."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.name, self.limits = name, limits
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}

    def document(self, root: _Node) -> Document:
        return Document(self._data(root, ()), self.name, self.keys, self.values)

    def _data(self, node: _Node, path: Path) -> object:
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
