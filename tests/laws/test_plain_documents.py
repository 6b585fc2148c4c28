"""Files are read line by line where that says the same as a whole YAML parser, elsewhere by the parser."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.documents.compose import Composer
from simulator.documents.plain import read_plain
from simulator.documents.read import Limits

ROOT = Path(__file__).parents[2]
LIMITS = Limits(nodes=1_000_000)
WORDS = [
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
        "...",
    ),
    *(
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
        "&x ",
        "*x",
    ),
    *("'", '"', "''", '"q"', "'q'", '"a: b # c"', "\\", "|", ">", "!!int ", "%", "@", "`", "\t", "<<: ", "é"),
    *(
        "a: 1",
        "b: {c: 2}",
        "c: [1, 2]",
        "- d: 4",
        "- 5",
        "e:",
        "---",
        "--- ",
        "{a: 1, b: [c, {d: e}]}",
        "\r",
        "\ufeff",
    ),
]
SAMPLE = """# a comment
name: some words  # and another
list:
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
"""
WHERE = st.integers(0, len(SAMPLE))
EDITS = st.lists(st.tuples(WHERE, st.integers(0, 3), st.sampled_from(["", "\n", *WORDS])), max_size=3)


def edited(edits: list[tuple[int, int, str]]) -> str:
    """Return the sample with pieces taken out and words put in."""
    text = SAMPLE
    for where, length, word in edits:
        text = text[:where] + word + text[where + length :]
    return text


def same(text: str) -> bool:
    """Check that the quick reader agrees with the parser where it answers, and tell whether it does."""
    quick = read_plain(text, "x.yaml", LIMITS)
    if quick is None:
        return False
    assert repr(Composer(text, "x.yaml", LIMITS).root()) == repr(quick)  # repr: nan differs from itself
    return True


@given(EDITS.map(edited))
def test_any_text(text: str) -> None:
    same(text)


@given(
    st.recursive(
        st.sampled_from(["1", "word", '"a: b"', "80 GiB", "-5", "x:y"]),
        lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=3),
        max_leaves=8,
    ).filter(lambda value: isinstance(value, dict)),
    st.sampled_from(["", " ", "  # why"]),
)
def test_nested_mappings_are_read(value: dict[str, object], ending: str) -> None:
    def lines(value: object, indent: int) -> list[str]:
        assert isinstance(value, dict)
        found: list[str] = []
        for key, inner in value.items():
            shown = f"{' ' * indent}{key}:"
            found += (
                [shown + ending, *lines(inner, indent + 2)]
                if isinstance(inner, dict)
                else [f"{shown} {inner}{ending}"]
            )
        return found

    assert same("\n".join(lines(value, 0)))


@pytest.mark.parametrize("folder", ["scenarios", "simulator/catalogue", "tests/bad_input"])
def test_files(folder: str) -> None:
    contents = [path.read_bytes() for path in (ROOT / folder).rglob("*.yaml")]
    quick = [same(content.decode("utf-8-sig", errors="replace")) for content in contents]
    assert folder == "tests/bad_input" or sum(quick) > 0.95 * len(quick)
