"""Can I believe it? Published runs, simulated and compared."""

from pathlib import Path

from simulator.validation.outcome import RowOutcome
from simulator.validation.render import render
from simulator.validation.report import ValidationReport
from simulator.validation.rows import read_rows
from simulator.validation.run import validate
from simulator.validation.show import ShownRow, shown_row
from simulator.validation.to_scenario import to_scenario

PUBLISHED = Path(__file__).parent / "published"
"""The published runs that ship with the package, one file per source."""

__all__ = [
    "PUBLISHED",
    "RowOutcome",
    "ShownRow",
    "ValidationReport",
    "read_rows",
    "render",
    "shown_row",
    "to_scenario",
    "validate",
]
