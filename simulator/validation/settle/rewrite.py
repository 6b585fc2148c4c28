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
    for node, new in zip(root.value, keys, strict=True):
        for index, insertion in sorted(_insertions(text, node, new)):
            parts += [text[written:index], insertion]
            written = index
    return "".join([*parts, text[written:]])


def _insertions(text: str, row: Any, new: Mapping[str, object]) -> Iterator[tuple[int, str]]:  # noqa: ANN401
    """Yield where to insert which text into a row."""
    settings = {key: value for key, value in new.items() if "." in key or key == "software"}
    keys = {key: value for key, value in new.items() if key not in settings}
    values = {key.value: value for key, value in row.value}
    existing = values.get(_SET)
    if settings and isinstance(existing, yaml.MappingNode):
        yield from _into(text, existing, settings)
    elif settings:
        keys[_SET] = settings
    if keys:
        yield from _into(text, row, keys, before="notes")


def _into(
    text: str,
    mapping: Any,  # noqa: ANN401
    new: Mapping[str, object],
    before: str = "",
) -> Iterator[tuple[int, str]]:
    """Yield where to insert new entries into a mapping, before one of its keys or at its end."""
    entries = ", ".join(f"{flow(key)}: {flow(value)}" for key, value in new.items())
    if mapping.flow_style:
        yield mapping.end_mark.index - 1, f", {entries}" if mapping.value else entries
        return
    first = mapping.value[0][0].start_mark
    indent = " " * first.column
    following = next((key for key, _ in mapping.value[1:] if key.value == before), None)
    lines = [f"{flow(key)}: {flow(value)}" for key, value in new.items()]
    if following is not None:
        yield following.start_mark.index, "".join(f"{line}\n{indent}" for line in lines)
        return
    last = mapping.value[-1][1].end_mark.index
    # A block scalar's end lies at the beginning of a later line, a plain one's in its own.
    end = text.rfind("\n", 0, last) if text[last - 1 : last] == "\n" else text.find("\n", last)
    end = len(text) if end < 0 else end
    yield end, "".join(f"\n{indent}{line}" for line in lines)


def flow(value: object) -> str:
    """Write a value on one line.

    >>> flow({"training.cuda_graphs": ["attn"], "pytorch": "2.6"})
    "{training.cuda_graphs: [attn], pytorch: '2.6'}"
    """
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
    return text.strip().removesuffix("...").strip()
