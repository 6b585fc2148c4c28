"""New keys for the rows of a file; all other text of it, comments and order included, stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from simulator.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_Loader: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_SET = "set"


def with_keys(text: str, name: str, keys: Sequence[Mapping[str, object]]) -> str:
    """Return the text of a file of rows with new keys in some rows.

    Args:
        text: A YAML list of mappings.
        name: What to call the file in an error.
        keys: For each row, its new keys; those with a dot, and ``software``, go into ``set:``.

    Raises:
        InputError: The text is no list of as many rows.
    """
    root: Any = yaml.compose(text, Loader=_Loader)
    if not isinstance(root, yaml.SequenceNode) or len(root.value) != len(keys):
        raise InputError(f"{name}: changed while it was settled")
    parts = []
    written = 0
    edits = [
        edit for node, new in zip(root.value, keys, strict=True) if new for edit in _edits(text, node, new)
    ]
    for start, end, replacement in sorted(edits):
        parts += [text[written:start], replacement]
        written = end
    return "".join([*parts, text[written:]])


def _edits(text: str, row: Any, new: Mapping[str, object]) -> Iterator[tuple[int, int, str]]:  # noqa: ANN401
    """Yield which spans of a row's text become what; where something is inserted, they are empty."""
    settings = {key: value for key, value in new.items() if "." in key or key == "software"}
    keys = {key: value for key, value in new.items() if key not in settings}
    values = {key.value: value for key, value in row.value}
    if settings and isinstance(values.get(_SET), yaml.MappingNode):
        yield _into(text, values[_SET], settings)
    elif settings:
        keys[_SET] = settings
    for key in keys.keys() & values.keys():  # written as null
        start, end = values[key].start_mark.index, values[key].end_mark.index
        yield start, end, f"{' ' if start == end else ''}{flow(keys.pop(key))}"
    if keys:
        yield _into(text, row, keys, before="notes")


def _into(
    text: str,
    mapping: Any,  # noqa: ANN401
    new: Mapping[str, object],
    before: str = "",
) -> tuple[int, int, str]:
    """Return where to insert new entries into a mapping, before one of its keys or at its end."""
    lines = [f"{flow(key)}: {flow(value)}" for key, value in new.items()]
    if mapping.flow_style:
        closing = mapping.end_mark.index - 1
        last = mapping.value[-1][1].end_mark.index if mapping.value else closing
        if not mapping.value or text[last:closing].lstrip().startswith(","):
            return closing, closing, ", ".join(lines)
        return last, last, "".join(f", {line}" for line in lines)
    indent = " " * mapping.value[0][0].start_mark.column
    following = next((key for key, _ in mapping.value[1:] if key.value == before), None)
    if following is not None:
        start = following.start_mark.index
        return start, start, "".join(f"{line}\n{indent}" for line in lines)
    last = mapping.value[-1][1].end_mark.index
    # A block scalar's end lies at the beginning of a later line, a plain one's in its own.
    end = text.rfind("\n", 0, last) if text[last - 1 : last] == "\n" else text.find("\n", last)
    end = len(text) if end < 0 else end
    return end, end, "".join(f"\n{indent}{line}" for line in lines)


def flow(value: object) -> str:
    """Write a value on one line.

    >>> flow({"training.cuda_graphs": ["attn"], "pytorch": "2.6"})
    "{training.cuda_graphs: [attn], pytorch: '2.6'}"
    """
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
    return text.strip().removesuffix("...").strip()
