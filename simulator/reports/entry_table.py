"""A catalogue entry as text: every number with its kind, and the sources they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.catalogue import Row


def entry_table(title: str, rows: Sequence[Row]) -> RenderableType:
    """Draw one line per number; sources are numbered and written out once, below."""
    sources = list(dict.fromkeys(row.source for row in rows if row.source))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(no_wrap=True)
    for row in rows:
        reference = f"[{sources.index(row.source) + 1}]" if row.source else ""
        table.add_row(f"  {row.field}", Text(row.value), Text(f"{row.kind} {reference}"))
    notes = [
        Padding(Text(f"[{number}] {' '.join(source.split())}"), (0, 0, 0, 2))
        for number, source in enumerate(sources, start=1)
    ]
    return Group(Text(title, style="bold"), table, Text("\n  Sources", style="bold"), *notes)
