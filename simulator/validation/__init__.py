"""Can I believe it? Published runs, simulated and compared."""

from simulator.validation.render import render
from simulator.validation.report import RowOutcome, ValidationReport
from simulator.validation.rows import read_rows
from simulator.validation.run import validate
from simulator.validation.to_scenario import to_scenario

__all__ = ["RowOutcome", "ValidationReport", "read_rows", "render", "to_scenario", "validate"]
