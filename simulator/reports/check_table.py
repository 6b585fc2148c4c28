"""What ``simulator check`` prints: sizes and memory of a scenario that was not timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from simulator.reports.derived import layout_text, size_lines
from simulator.reports.memory_table import memory_table
from simulator.reports.pairs import heading, pairs

if TYPE_CHECKING:
    from simulator.results.memory import MemoryReport
    from simulator.scenario import Scenario


def check_table(scenario: Scenario, memory: MemoryReport) -> RenderableType:
    """Draw the derived sizes and the memory of each pipeline rank."""
    return Group(
        Text(scenario.name, style="bold"),
        Text(layout_text(scenario), style="dim"),
        Text(),
        pairs(size_lines(scenario)),
        heading("Memory per GPU"),
        memory_table(memory),
    )
