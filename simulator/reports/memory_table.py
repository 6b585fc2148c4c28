"""Memory per GPU as text: whether it fits, which rank holds most and what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from simulator.units import format_bytes

if TYPE_CHECKING:
    from simulator.results.memory import MemoryReport, RankMemory

_SHOWN_RANKS = 4
_NAMED = ("weights", "gradients", "optimizer", "activations", "logits")


def verdict(memory: MemoryReport) -> str:
    """Say in one sentence whether it fits, by how much, and what breaks it."""
    worst, room = memory.worst, memory.capacity_bytes - memory.peak_bytes
    holds = f"{worst.name} holds {format_bytes(memory.peak_bytes)} of {format_bytes(memory.capacity_bytes)}"
    if memory.fits:
        return f"fits: {holds}, {format_bytes(room)} to spare"
    term = memory.breaking_term or worst.largest_term
    return f"does not fit: {holds}, {format_bytes(-room)} too much; the limit is passed by the {_words(term)}"


def memory_table(memory: MemoryReport) -> RenderableType:
    """Draw the verdict and, for the ranks that matter, what they hold by term."""
    shown = _ranks_that_matter(memory)
    terms = [term for term in _NAMED if any(rank.terms()[term] for rank in shown)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("  GiB")
    for term in ["total", *terms, "other"]:
        table.add_column(term, justify="right")
    for rank in shown:
        sizes = [rank.terms()[term] for term in terms]
        sizes = [rank.total_bytes, *sizes, rank.total_bytes - sum(sizes)]
        style = "bold" if rank is memory.worst else ""
        table.add_row(f"  {rank.name}", *(f"{size / 2**30:.1f}" for size in sizes), style=style)
    text = Text(verdict(memory), style="" if memory.fits else "bold red")
    return Group(Padding(text, (0, 0, 0, 2)), table)


def _ranks_that_matter(memory: MemoryReport) -> list[RankMemory]:
    """Choose the worst, the first, the last and the lightest rank, in order."""
    if len(memory.ranks) <= _SHOWN_RANKS:
        return list(memory.ranks)
    lightest = min(memory.ranks, key=lambda rank: rank.total_bytes)
    chosen = (memory.ranks[0], memory.worst, lightest, memory.ranks[-1])
    return [rank for rank in memory.ranks if any(rank is other for other in chosen)]


def _words(term: str) -> str:
    return term.replace("_", " ")
