"""Settles published rows: what their notes say of speed and memory becomes ``set:`` and keys of the row.

Nothing else reads notes. What stands in a row already is never changed, so settling twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.errors import RowError
from simulator.reports.output import write_whole
from simulator.validation.row_settings import flat_settings
from simulator.validation.rows import files_of, read_rows
from simulator.validation.settle.facts import Facts
from simulator.validation.settle.notes import Notes
from simulator.validation.settle.readers import READERS
from simulator.validation.settle.rewrite import with_keys

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from simulator.validation.rows import RawRow


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledRow:
    """What was read of one row.

    Attributes:
        row: The row, with what is new in it.
        keys: What is new in it: settings of scenario files by path (with a dot), and keys of rows.
        unread: Clauses of its notes that speak of speed or memory and that no reader understood.
        impossible: What its notes say and a scenario cannot.
    """

    row: RawRow
    keys: Mapping[str, object]
    unread: tuple[str, ...] = ()
    impossible: tuple[str, ...] = ()


def settle_row(raw: RawRow) -> SettledRow:
    """Read the notes of a row; one that is malformed stays as it is."""
    if not isinstance(raw.content, Mapping):
        return SettledRow(row=raw, keys={}, impossible=("row is no mapping",))
    content = dict(raw.content)
    notes = Notes(str(content.get("notes") or ""))
    impossible: list[str] = []
    new: dict[str, object] = {}
    try:
        present = flat_settings(content.get("set"))
        for reader in READERS:
            facts = Facts(row=replace(raw, content=content).parsed(), notes=notes, impossible=impossible)
            for key, value in reader(facts).items():
                if "." in key or key == "software":
                    if key in present:
                        continue
                    present[key] = new[key] = value
                elif content.get(key) is None:
                    content[key] = new[key] = value
            content["set"] = present
    except RowError as error:
        return SettledRow(row=raw, keys={}, impossible=(str(error),))
    return SettledRow(
        row=replace(raw, content=content),
        keys=new,
        unread=tuple(dict.fromkeys(notes.unread())),
        impossible=tuple(dict.fromkeys(impossible)),
    )


def settle(paths: Iterable[str | Path], *, write: bool = True) -> list[SettledRow]:
    """Settle all rows of files, and of the ``*.yaml`` files directly inside directories, in place.

    Args:
        paths: Files and directories.
        write: Whether files are changed; each is replaced as a whole.

    Returns:
        All rows in their order.

    Raises:
        InputError: A path that cannot be read as a list of rows, or cannot be written.
    """
    rows: list[SettledRow] = []
    for file in files_of(paths):
        settled = [settle_row(raw) for raw in read_rows([file])]
        rows += settled
        if write and any(row.keys for row in settled):
            text = file.read_text("utf-8")
            write_whole(file, with_keys(text, str(file), [row.keys for row in settled]).encode())
    return rows
