"""Files are read as an independent reader of YAML 1.2 reads them, by libyaml and without it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode

from simulator.documents import Document, Limits, parse
from simulator.errors import ScenarioError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.documents.document import Path as DataPath

ROOT = Path(__file__).parents[2]
LIMITS = Limits(nodes=1_000_000)
WORDS = (
    *(
        "a",
        "b",
        "key",
        "1",
        "-5",
        "1e3",
        "0x1F",
        "~",
        "true",
        "80 GiB",
        "it's",
        "x:y",
        "x#y",
        "a, b",
        "-",
        "?",
    ),
    *(
        "...",
        " ",
        "  ",
        "   ",
        ":",
        ": ",
        "- ",
        "-  ",
        ",",
        ", ",
        "{",
        "}",
        "[",
        "]",
        "{}",
        "[]",
        "#",
        " # c",
    ),
    *("&x ", "*x", "'", '"', "''", '"q"', "'q'", '"a: b # c"', "\\", "|", ">", "!!int ", "%", "@", "`", "\t"),
    *("<<: ", "é", "a: 1", "b: {c: 2}", "c: [1, 2]", "- d: 4", "- 5", "e:", "---", "--- ", "\r", "\ufeff"),
    "{a: 1, b: [c, {d: e}]}",
)
SAMPLE = """# a comment
name: some words  # and another
list: &list
- {value: 80 GiB, source: "a: b, # c"}
- one
of:
  - a: 'it''s'
    b: [1, -2, x]

  - c
d: {e: {f: g}}
h:
    i: 5
    j:
      - k
      - |
        two
        lines
      - >-
        folded
        text
again: *list
"""
WHERE = st.integers(0, len(SAMPLE))
EDITS = st.lists(st.tuples(WHERE, st.integers(0, 3), st.sampled_from(["", "\n", *WORDS])), max_size=3)
SCALARS = ["1", "-5", "1e3", "0x1F", "0o17", "1.5", ".inf", "no", "True", "12:30", "80 GiB", "x:y", "'a: b'"]
SCALARS += ['"a # b"', '"tab\\t"', "'it''s'", "~", "x#y", "é"]


@pytest.fixture(params=["libyaml", "PyYAML alone"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let files be read by libyaml, or as where PyYAML was built without it."""
    if request.param == "PyYAML alone":
        monkeypatch.setattr(sys.modules["simulator.documents.parse"], "_Parser", yaml.Loader)
    else:
        assert yaml.__with_libyaml__
    return str(request.param)


def edited(edits: list[tuple[int, int, str]]) -> str:
    """Return the sample with pieces taken out and words put in."""
    text = SAMPLE
    for where, length, word in edits:
        text = text[:where] + word + text[where + length :]
    return text


def independent(text: str) -> tuple[object, dict[DataPath, tuple[int, int]]]:
    """Return the data of a text and where its values stand, as ruamel.yaml reads YAML 1.2.

    Raises:
        YAMLError: The text is no YAML.
    """
    reader: Any = YAML(typ="safe", pure=True)
    data = reader.load(text)
    return data, dict(_places(reader.compose(text), ()))


def _places(node: Any, path: DataPath) -> Iterator[tuple[DataPath, tuple[int, int]]]:  # noqa: ANN401
    if node is None:
        return
    yield path, (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _places(value, (*path, str(key.value)))
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            yield from _places(item, (*path, index))


def texts(data: object) -> object:
    """Return data with keys as text; what keys and numbers are differs on purpose (``16_384``, ``1: x``)."""
    if isinstance(data, dict):
        return {"nothing" if key is None else str(key).lower(): texts(value) for key, value in data.items()}
    return [texts(item) for item in data] if isinstance(data, list) else repr(data)


def compare(text: str) -> Document | None:
    """Check that the independent reader agrees; return what both read, None where one refuses."""
    try:
        document = parse(text, "x.yaml", LIMITS)
        data, places = independent(text)
    except (ScenarioError, YAMLError, ValueError):
        return None
    keys = {str(path[-1]) for path in document.values if path}
    if keys & {"~", "null", "0x1F", "1e3"} or "\t" in text or "&" in text.replace("&list\n", ""):
        return None  # keys are text here; of anchors' names the readers think differently
    assert texts(document.data) == texts(data)
    for path, place in document.values.items():
        if value_at(document.data, path) is not None and "*" not in text:
            assert (place.line, place.column) == places[path]
            assert place.excerpt == text.splitlines()[place.line - 1][:200]
    return document


def value_at(data: Any, path: DataPath) -> object:  # noqa: ANN401
    for part in path:
        data = data[part]
    return data


@given(EDITS.map(edited))
def test_any_text_is_read_as_by_another_reader_or_refused(text: str) -> None:
    compare(text)


@given(EDITS.map(edited))
def test_libyaml_is_not_needed(text: str) -> None:
    def read(parser: object) -> Document | None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules["simulator.documents.parse"], "_Parser", parser)
            try:
                return parse(text, "x.yaml", LIMITS)
            except ScenarioError:
                return None

    quick, slow = read(yaml.CLoader), read(yaml.Loader)
    if quick and slow and "\t" not in text:
        assert repr(quick.data) == repr(slow.data)
        for path, place in quick.values.items():  # they differ in the column where nothing stands
            assert value_at(quick.data, path) is None or place == slow.values[path]


@st.composite
def documents(draw: st.DrawFn) -> tuple[object, str]:
    """Return data and a text that holds it; every list and mapping stands in lines or in brackets."""

    def write(depth: int, indent: int, *, in_flow: bool) -> tuple[object, str]:
        kind = draw(st.sampled_from(["scalar", "list", "mapping"])) if depth else "mapping"
        if kind == "scalar" or depth > 3:
            text = draw(st.sampled_from(SCALARS))
            return YAML(typ="safe", pure=True).load(text), text
        is_flow = in_flow or draw(st.booleans())
        parts = [write(depth + 1, indent + 2, in_flow=is_flow) for _ in range(draw(st.integers(1, 3)))]
        names = [f"k{i}: " if kind == "mapping" else "" for i in range(len(parts))]
        values = [value for value, _ in parts]
        data = values if kind == "list" else {f"k{i}": value for i, value in enumerate(values)}
        if is_flow:
            inside = ", ".join(name + text for name, (_, text) in zip(names, parts, strict=True))
            return data, f"[{inside}]" if kind == "list" else f"{{{inside}}}"
        end = draw(st.sampled_from(["", "  # why", " "]))
        begin = "\n" + " " * indent + ("- " if kind == "list" else "")
        lines = [
            begin + (name.rstrip() + text if text.startswith("\n") else name + text + end)
            for name, (_, text) in zip(names, parts, strict=True)
        ]
        return data, "".join(lines)

    data, text = write(0, 0, in_flow=False)
    return data, text


@given(documents())
def test_data_in_any_style_is_read_with_its_places(written: tuple[object, str]) -> None:
    data, text = written
    assert texts(parse(text).data) == texts(data)
    assert compare(text) is not None


@pytest.mark.parametrize("folder", ["scenarios", "simulator/catalogue"])
def test_every_file_of_ours_is_read_the_same(folder: str, reader: str) -> None:
    del reader
    for path in sorted((ROOT / folder).rglob("*.yaml"))[::5]:
        assert compare(path.read_text("utf-8")) is not None, path


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: 1\na: 2", (2, 1), "the key 'a' is given twice, first in line 1"),
        ("a: !!str 1", (1, 4), "the tag '!!str' is not supported"),
        ("<<: {a: 1}", (1, 1), "merge keys ('<<') are not part of YAML 1.2"),
        ("a: 1\n---\nb: 2", (2, 1), "a second document begins"),
        ("a: &a [*a]", (1, 8), "stands inside its own anchor"),
        ("a: *b", (1, 4), "the alias *b has no anchor before it"),
        ("a: " + "9" * 500, (1, 4), "a number of 500 characters"),
        ("a: \x07", (1, 4), r"character '\x07' is not allowed in YAML"),
        ("a:\n\tb: 1", (2, 1), r"found character '\t' that cannot start any token"),
        ("a: [1, 2", (1, 9), "while parsing a flow sequence"),
        ("a: [b\nc: 1", (2, 2), "while parsing a flow sequence"),
        ("[1]: 2", (1, 1), "a key must be a word"),
        ("x" * 300 + ": 1", (1, 1), "a key of 300 characters"),
        ("- " * 60 + "1", (1, 83), "nested deeper than 40 levels"),
        ("[" * 5000, None, "nested deeper than 40 levels"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]", None, "more than 12 values once aliases are expanded"),
        ('a: "\\ud800"', None, "not valid YAML"),
    ],
)
def test_what_is_refused_is_named_and_placed(
    text: str, place: tuple[int, int] | None, message: str, reader: str
) -> None:
    limits = Limits(nodes=12) if "12 values" in message else Limits()
    if reader == "PyYAML alone" and "ud800" in text:
        return  # Python's own strings hold half a pair; nothing that reads them prints it
    with pytest.raises(ScenarioError) as caught:
        parse(text, "x.yaml", limits)
    problem = caught.value.problems[0]
    assert message in problem.message
    assert place is None or (problem.line, problem.column) == place
