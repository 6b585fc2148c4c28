"""The YAML that files are nearly always written in, read line by line some thirty times as fast as any YAML.

Block mappings and lists of plain or quoted scalars, and flow collections within a line. Whatever else a text
holds, or may mean, is left to ``compose``: a reader that answers None when in doubt can never be wrong.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from simulator.documents.document import Place
from simulator.documents.node import LONGEST_KEY, Node
from simulator.documents.scalars import plain_scalar

if TYPE_CHECKING:
    from simulator.documents.read import Limits

_WORD = r"[A-Za-z0-9_][A-Za-z0-9_./-]*"
_START = r"(?:[A-Za-z0-9_./(+~]|-(?=[A-Za-z0-9_./(]))"
_ENTRY = re.compile(rf"( *)({_WORD}):(?= |$)")
_INNER_ENTRY = re.compile(rf"{_WORD}:(?= |$)")
_ITEM = re.compile(r"( *)- +(?=[^ #-])")
_NOTHING = re.compile(r" *(?:#.*)?$")
_REST = re.compile(r" *(?: #.*)?$")
_QUOTED = re.compile(r"\"([^\"\\]*)\"|'((?:[^']|'')*)'")
_PLAIN = re.compile(rf"{_START}(?:[^ :#]|:(?=[^ ])|(?<=[^ ])#| +(?=[^ #]))*(?=$| )")
_FLOW_KEY = re.compile(rf"({_WORD}): +")
_FLOW_PLAIN = re.compile(rf"{_START}[^,\[\]{{}}:#\"'\\]*")
_COMMA = re.compile(r", *(?=[^ ,\]}])")
_SPACES = re.compile(r" *")


class _UnusualError(Exception):
    """The text holds what this reader does not know."""


def read_plain(text: str, name: str, limits: Limits) -> Node | None:
    """Return the content of a document, or None where only a whole YAML parser can tell what it is."""
    try:
        return _Lines(text, name, limits).root()
    except _UnusualError:
        return None


class _Lines:
    """Recursive descent over lines; ``at`` is the next one that holds something."""

    def __init__(self, text: str, name: str, limits: Limits) -> None:
        self.lines = text.split("\n")
        self.written = tuple(self.lines)
        if not all(map(str.isprintable, self.lines)):  # tabs, other line ends, what YAML forbids
            self._stop()
        self.name, self.limits = name, limits
        self.nodes, self.at = 0, -1
        self._next()

    def root(self) -> Node:
        """Return the content."""
        node = self._block(0, 0)
        if self.at < len(self.lines):
            self._stop()
        return node

    def _next(self) -> None:
        self.at += 1
        while self.at < len(self.lines) and _NOTHING.match(self.lines[self.at]):
            self.at += 1

    def _block(self, least: int, depth: int) -> Node:
        """Read the mapping or list that begins in this line, indented by at least so much."""
        if self.at < len(self.lines):
            for kind, read in ((_ENTRY, self._mapping), (_ITEM, self._list)):
                begin = kind.match(self.lines[self.at])
                if begin and len(begin[1]) >= least:
                    return read(len(begin[1]), depth)
        return self._stop()

    def _mapping(self, indent: int, depth: int) -> Node:
        node = self._node(indent, depth)
        node.entries = {}
        while (entry := self._begins(_ENTRY, indent)) is not None:
            place = self._place(indent)
            if _REST.match(entry.string, entry.end()):
                self._next()
                is_list = self.at < len(self.lines) and _ITEM.match(self.lines[self.at])
                value = self._block(indent if is_list else indent + 1, depth + 1)
            else:
                value = self._to_end(entry.end(), depth + 1)
            self._add(node.entries, entry[2], place, value)
        return node

    def _list(self, indent: int, depth: int) -> Node:
        node = self._node(indent, depth)
        node.items = []
        while (item := self._begins(_ITEM, indent)) is not None:
            begin = item.end()
            if _INNER_ENTRY.match(item.string, begin):
                self.lines[self.at] = " " * begin + item.string[begin:]  # a mapping, as if it began below
                node.items.append(self._mapping(begin, depth + 1))
            else:
                node.items.append(self._to_end(begin, depth + 1))
        return node

    def _begins(self, kind: re.Pattern[str], indent: int) -> re.Match[str] | None:
        """Return how the next part of a mapping or list begins; None after its end."""
        if self.at == len(self.lines):
            return None
        line = self.lines[self.at]
        begin = kind.match(line)
        if begin and len(begin[1]) == indent:
            return begin
        if len(line) - len(line.lstrip(" ")) > indent:  # the part before goes on in some way
            self._stop()
        return None

    def _to_end(self, begin: int, depth: int) -> Node:
        """Read a value that ends with its line."""
        line = self.lines[self.at]
        begin = _end(_SPACES, line, begin)
        if line[begin] in "[{":
            node, end = self._flow(line, begin, depth)
        else:
            node, end = self._scalar(_PLAIN, line, begin, depth)
        if not _REST.match(line, end):
            self._stop()
        self._next()
        return node

    def _flow(self, line: str, begin: int, depth: int) -> tuple[Node, int]:
        """Read a value within a flow collection, and where it ends."""
        if line[begin : begin + 1] not in {"[", "{"}:
            return self._scalar(_FLOW_PLAIN, line, begin, depth)
        node, is_list = self._node(begin, depth), line[begin] == "["
        items: list[Node] = []
        entries: dict[str, tuple[Place, Node]] = {}
        close = "]" if is_list else "}"
        end = _end(_SPACES, line, begin + 1)
        while line[end : end + 1] != close:
            if is_list:
                value, end = self._flow(line, end, depth + 1)
                items.append(value)
            else:
                key = _FLOW_KEY.match(line, end) or self._stop()
                value, end = self._flow(line, key.end(), depth + 1)
                self._add(entries, key[1], self._place(key.start()), value)
            end = _end(_SPACES, line, end)
            if line[end : end + 1] != close:
                end = (_COMMA.match(line, end) or self._stop()).end()
        if is_list:
            node.items = items
        else:
            node.entries = entries
        return node, end + 1

    def _scalar(self, plain: re.Pattern[str], line: str, begin: int, depth: int) -> tuple[Node, int]:
        node = self._node(begin, depth)
        quoted = _QUOTED.match(line, begin)
        if quoted:
            node.scalar = quoted[1] if quoted[2] is None else quoted[2].replace("''", "'")
            return node, quoted.end()
        word = plain.match(line, begin) or self._stop()
        try:
            node.scalar = plain_scalar(word[0].rstrip(" "))
        except ValueError:
            self._stop()
        return node, word.end()

    def _add(self, entries: dict[str, tuple[Place, Node]], key: str, place: Place, value: Node) -> None:
        if key in entries or len(key) > LONGEST_KEY:
            self._stop()
        entries[key] = place, value

    def _node(self, column: int, depth: int) -> Node:
        self.nodes += 1
        if self.nodes > self.limits.nodes or depth > self.limits.depth:
            self._stop()
        return Node(self._place(column))

    def _place(self, column: int) -> Place:
        return Place(self.name, self.at + 1, column + 1, self.written[self.at][:200])

    def _stop(self) -> NoReturn:
        raise _UnusualError


def _end(pattern: re.Pattern[str], line: str, begin: int) -> int:
    found = pattern.match(line, begin)
    return found.end() if found else begin
