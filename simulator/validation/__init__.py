"""Can I believe it? Published runs, simulated and compared."""

from pathlib import Path

from simulator.validation.outcome import RowOutcome
from simulator.validation.render import render
from simulator.validation.report import ValidationReport
from simulator.validation.rows import read_rows
from simulator.validation.run import validate
from simulator.validation.to_scenario import to_scenario

PUBLISHED = Path(__file__).parent / "published"
"""The published runs that ship with the package, one file per source."""

__all__ = ["PUBLISHED", "RowOutcome", "ValidationReport", "read_rows", "render", "to_scenario", "validate"]
