"""Simulate published rows and compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from simulator import api
from simulator.errors import RowError, ScenarioError, SimulatorError
from simulator.scenario import Scenario
from simulator.validation.compare import Answer, compare, stated_metric
from simulator.validation.components import validate_components
from simulator.validation.fits import judge_fits
from simulator.validation.layout_sweeps import sweep_name
from simulator.validation.leave_one_out import without_source
from simulator.validation.measured_times import timed_rows
from simulator.validation.outcome import RowOutcome
from simulator.validation.report import ValidationReport
from simulator.validation.rows import RawRow, read_rows
from simulator.validation.to_scenario import to_scenario

if TYPE_CHECKING:
    from pathlib import Path

Simulate = Callable[[Scenario], Answer]
Progress = Callable[[int, int], None]


def validate(
    paths: Iterable[str | Path],
    *,
    limit: int | None = None,
    progress: Progress | None = None,
    simulate: Simulate = api.simulate,
    with_measured_times: bool = True,
    leave_one_out: bool = False,
    jobs: int = 1,
    with_components: bool = False,
) -> ValidationReport:
    """Simulate every published row and compare the prediction with the measurement.

    Args:
        paths: Files of rows, or directories of such files.
        limit: Only so many rows, the first ones; None for all.
        progress: Called with the number of rows done and of all rows, after each row.
        simulate: What predicts.
        with_measured_times: Whether rows that state the times of their passes are simulated once more with
            these, so that only schedule and engine are under test.
        leave_one_out: Whether each row is simulated once more with constants fitted without its source.
        jobs: Processes that share the work; with more than one, ``simulate`` must be a module's function.
        with_components: Whether the measured parts of steps that ship with the package are predicted too,
            and the runs of sweeps that did not fit are judged.

    Returns:
        Every row: simulated, or skipped with its reason.

    Raises:
        InputError: A path that cannot be read as a list of rows.
    """
    rows = read_rows(paths)[:limit]
    outcome_of = partial(outcome, simulate=simulate, leave_one_out=leave_one_out)
    outcomes: list[RowOutcome] = []
    for row in _outcomes(outcome_of, rows, jobs):
        outcomes.append(row)
        if progress is not None:
            progress(len(outcomes), len(rows))
    return ValidationReport(
        rows=tuple(outcomes),
        timed=timed_rows(rows) if with_measured_times else (),
        components=validate_components() if with_components else (),
        fits=judge_fits() if with_components else None,
    )


def _outcomes(
    outcome_of: Callable[[RawRow], RowOutcome], rows: Sequence[RawRow], jobs: int
) -> Iterator[RowOutcome]:
    if jobs <= 1:
        yield from map(outcome_of, rows)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(outcome_of, rows, chunksize=4)


def outcome(raw: RawRow, simulate: Simulate = api.simulate, *, leave_one_out: bool = False) -> RowOutcome:
    """Simulate one row and compare; with ``leave_one_out``, again as if its source had never been seen.

    An error that the simulator raises on purpose makes a skipped row. Any other is a defect: it passes, with
    the row's id added.
    """
    warnings: tuple[str, ...] = ()
    unseen: float | None = None
    try:
        row = raw.parsed()
        stated_metric(row)
        scenario, warnings = to_scenario(row)
        comparison = compare(row, scenario, simulate(scenario))
        if leave_one_out:
            unfitted = without_source(scenario, raw.source)
            unseen = compare(row, unfitted, simulate(unfitted)).error
    except SimulatorError as error:
        text, reason = _reason(error)
        return RowOutcome(
            id=raw.id, source=raw.source, gpu=raw.gpu, skipped=text, reason=reason, warnings=warnings
        )
    except Exception as error:
        error.add_note(f"while simulating the published row {raw.id!r} of {raw.source}")
        raise
    return RowOutcome(
        id=raw.id,
        source=raw.source,
        gpu=raw.gpu,
        stack=row.stack or "",
        precision=scenario.training.precision,
        has_experts=scenario.model.experts is not None,
        sweep=sweep_name(row),
        doubtful=row.doubtful,
        unseen_error=unseen,
        comparison=comparison,
        warnings=warnings + comparison.warnings,
    )


def _reason(error: SimulatorError) -> tuple[str, str]:
    """Return an error's text on one line, and the shorter text that equal cases share."""
    if isinstance(error, ScenarioError):
        parts = [": ".join(part for part in (p.path, p.message) if part) for p in error.problems]
        paths = dict.fromkeys(p.path for p in error.problems if p.path)
        return "scenario is refused: " + "; ".join(
            parts
        ), f"scenario is refused ({', '.join(paths) or 'rules'})"
    text = " ".join(str(error).split()) or type(error).__name__
    return text, text.partition(": ")[0] if isinstance(error, RowError) else text
