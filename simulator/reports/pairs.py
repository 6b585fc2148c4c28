"""Headings and lists of names with their texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable


def pairs(lines: Iterable[tuple[str, str]], *, strong: bool = False) -> Table:
    """Draw names and texts in two columns; ``strong`` prints the first text bold."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for number, (name, text) in enumerate(lines):
        table.add_row(f"  {name}", Text(text, style="bold" if strong and number == 0 else ""))
    return table


def heading(text: str) -> Text:
    """Draw a heading with a blank line above it."""
    return Text(f"\n{text}", style="bold")
