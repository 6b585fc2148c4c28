"""YAML events to a tree of nodes with places; aliases share their node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from simulator.documents.document import Place
from simulator.documents.node import LONGEST_KEY, Node
from simulator.documents.scalars import plain_scalar
from simulator.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.documents.read import Limits


class _StopError(Exception):
    """Composing cannot go on; the problem is already noted."""


class Composer:
    """Recursive descent over the parser's events; the depth limit bounds the recursion."""

    def __init__(self, text: str, name: str, limits: Limits) -> None:
        self.text, self.name, self.limits = text, name, limits
        self.lines = text.splitlines()
        self.problems: list[Problem] = []
        self.anchors: dict[str, Node | None] = {}
        self.nodes = 0

    def root(self) -> Node | None:
        """Return the content of the only document, or None when there is none.

        Raises:
            ScenarioError: What is wrong with the text.
        """
        root: Node | None = None
        try:
            root = self._only_document()
        except _StopError:
            pass
        except ReaderError as error:
            before = self.text[: error.position]
            line = before.count("\n") + 1
            place = Place(self.name, line, error.position - before.rfind("\n"))
            self._note(f"character {error.character!r} is not allowed in YAML", place)
        except MarkedYAMLError as error:
            what = ", ".join(str(part) for part in (error.context, error.problem) if part)
            mark = error.problem_mark or error.context_mark
            self._note(f"not valid YAML: {what}", self._place(mark) if mark else Place(self.name))
        except Exception as error:  # noqa: BLE001  the scanner fails in many ways on garbage
            self._note(f"not valid YAML: {error}", Place(self.name))
        if self.problems:
            raise ScenarioError(self.problems)
        return root

    def _only_document(self) -> Node | None:
        self.events: Iterator[Any] = iter(YAML(typ="safe", pure=True).parse(self.text))
        root: Node | None = None
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    self._stop("a second document begins; a file holds one", self._place(event.start_mark))
                root = self._node(next(self.events), 0)
        return root

    def _node(self, event: Any, depth: int) -> Node:  # noqa: ANN401  ruamel.yaml's events are untyped
        place = self._place(event.start_mark)
        self.nodes += 1
        if self.nodes > self.limits.nodes:
            self._stop(f"more than {self.limits.nodes} values", place)
        if depth > self.limits.depth:
            self._stop(f"nested deeper than {self.limits.depth} levels", place)
        if isinstance(event, AliasEvent):
            return self._aliased(event, place)
        if event.tag is not None and str(event.tag) != "!":
            self._note(f"the tag {_tag(event)!r} is not supported: write the plain value", place)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        node = self._content(event, place, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _content(self, event: Any, place: Place, depth: int) -> Node:  # noqa: ANN401
        if isinstance(event, ScalarEvent):
            return Node(place, scalar=self._scalar(event, place))
        if isinstance(event, SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(event := next(self.events), SequenceEndEvent):
                items.append(self._node(event, depth + 1))
            return Node(place, items=items)
        entries: dict[str, tuple[Place, Node]] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            key_place = self._place(event.start_mark)
            key = self._key(event, key_place)
            if key in entries:
                first = entries[key][0].line
                self._note(f"the key {key!r} is given twice, first in line {first}", key_place)
            node = self._node(next(self.events), depth + 1)
            is_absent = node.scalar is None and node.items is None and node.entries is None
            if is_absent and node.place.line != key_place.line:  # the parser has already skipped lines
                node = Node(key_place)
            entries[key] = (key_place, node)
        return Node(place, entries=entries)

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
        if len(event.value) > LONGEST_KEY:
            self._stop(f"a key of {len(event.value)} characters", place)
        if event.value == "<<" and event.implicit[0]:
            self._note("merge keys ('<<') are not part of YAML 1.2; use 'base: other.yaml'", place)
        return str(event.value)

    def _aliased(self, event: Any, place: Place) -> Node:  # noqa: ANN401
        if event.anchor not in self.anchors:
            self._stop(f"the alias *{event.anchor[:60]} has no anchor before it", place)
        node = self.anchors[event.anchor]
        if node is None:
            self._stop(f"the alias *{event.anchor[:60]} stands inside its own anchor", place)
        return node

    def _place(self, mark: Any) -> Place:  # noqa: ANN401
        line = self.lines[mark.line] if mark.line < len(self.lines) else ""
        return Place(self.name, mark.line + 1, mark.column + 1, line[:200])

    def _note(self, message: str, place: Place) -> None:
        self.problems.append(place.problem(message))

    def _stop(self, message: str, place: Place) -> NoReturn:
        self._note(message, place)
        raise _StopError


def _tag(event: Any) -> str:  # noqa: ANN401
    return str(event.tag).replace("tag:yaml.org,2002:", "!!")[:60]
