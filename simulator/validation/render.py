"""The report as tables for people."""

from __future__ import annotations

from statistics import median
from typing import IO, TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from simulator.validation.components import component_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.validation.compare import Comparison
    from simulator.validation.layout_sweeps import LayoutSweep
    from simulator.validation.outcome import RowOutcome
    from simulator.validation.report import ValidationReport
    from simulator.validation.statistics import ErrorSummary

_WIDTH = 110


def render(report: ValidationReport, stream: IO[str], *, all_rows: bool = False) -> None:
    """Write a report to a stream.

    Args:
        report: What to write.
        stream: Where to; colours only on a terminal.
        all_rows: Every row instead of the worst ones.
    """
    width = None if stream.isatty() else _WIDTH
    console = Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
    shown = report.simulated if all_rows else report.worst()
    kinds = {kind: summary for kind, summary in report.by_set.items() if summary is not None}
    tables = [
        _rows_table("All simulated rows" if all_rows else f"The {len(shown)} worst rows", shown),
        _skipped_table(report) if all_rows else _reasons_table(report),
        _summary_table("source", report.by_source),
        _summary_table("GPU", report.by_gpu),
        _summary_table("kind of run", kinds),
        _sweeps_table(report.layout_sweeps),
        _timed_table(report),
        _components_table(report),
    ]
    for table in tables:
        if table.row_count:
            console.print(table)
            console.print()
    console.print(_closing(report))


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )


def _rows_table(title: str, rows: Sequence[tuple[RowOutcome, Comparison]]) -> Table:
    table = _table(title)
    table.add_column("row", overflow="fold")
    table.add_column("metric")
    for name in ("predicted", "published", "error"):
        table.add_column(name, justify="right")
    for row, found in rows:
        table.add_row(
            row.id, found.metric, f"{found.predicted:.4g}", f"{found.published:.4g}", _percent(found.error)
        )
    return table


def _reasons_table(report: ValidationReport) -> Table:
    table = _table("Skipped")
    table.add_column("rows", justify="right")
    table.add_column("reason", overflow="fold")
    for reason, count in report.skipped_by_reason.items():
        table.add_row(str(count), reason)
    return table


def _skipped_table(report: ValidationReport) -> Table:
    table = _table("Skipped rows")
    for column in ("row", "source", "reason"):
        table.add_column(column, overflow="fold")
    for row in report.rows:
        if row.skipped is not None:
            table.add_row(row.id, row.source, row.skipped)
    return table


def _summary_table(name: str, groups: Mapping[str, ErrorSummary | None]) -> Table:
    table = _table(f"Throughput error by {name}")
    table.add_column(name)
    for column in ("rows", "mean |error|", "median", "p90", "bias", "skill"):
        table.add_column(column, justify="right")
    for group, summary in groups.items():
        table.add_row(group, *_cells(summary))
    return table


def _sweeps_table(sweeps: Sequence[LayoutSweep]) -> Table:
    table = _table("Layouts of one model on one cluster: rank correlation, what the predicted best yields")
    table.add_column("source")
    table.add_column("sweep", overflow="fold")
    for column in ("layouts", "Spearman", "choice/best"):
        table.add_column(column, justify="right")
    for sweep in sweeps:
        numbers = (str(sweep.rows), f"{sweep.rank_correlation:.2f}", f"{sweep.choice:.3f}")
        table.add_row(sweep.source, sweep.name, *numbers)
    return table


def _timed_table(report: ValidationReport) -> Table:
    """Show rows with their own measured times, where only the schedule and the engine are under test."""
    groups: dict[tuple[str, str], list[float]] = {}
    for row in report.timed:
        groups.setdefault((row.source, row.schedule), []).append(row.error)
    table = _table("Schedule and engine alone: measured times of passes and messages")
    table.add_column("source")
    table.add_column("schedule")
    for column in ("rows", "mean |error|", "worst", "bias"):
        table.add_column(column, justify="right")
    everything = {("all", ""): [row.error for row in report.timed]} if report.timed else {}
    for (source, schedule), errors in {**groups, **everything}.items():
        mean = sum(map(abs, errors)) / len(errors)
        table.add_row(
            source,
            schedule,
            str(len(errors)),
            f"{mean:.1%}",
            f"{max(map(abs, errors)):.1%}",
            _percent(sum(errors) / len(errors)),
        )
    return table


def _components_table(report: ValidationReport) -> Table:
    table = _table("Parts of a step beside measurements of the same parts")
    table.add_column("part")
    table.add_column("source", overflow="fold")
    for column in ("times", "mean |error|", "p90", "bias"):
        table.add_column(column, justify="right")
    for (kind, source), found in component_errors(report.components).items():
        table.add_row(kind, source, *(cell for place, cell in enumerate(_cells(found)[:-1]) if place != 2))
    return table


def _cells(summary: ErrorSummary | None) -> tuple[str, ...]:
    if summary is None:
        return ("0", *("-",) * 5)
    return (
        str(summary.rows),
        f"{summary.mean_abs_error:.1%}",
        f"{summary.median_abs_error:.1%}",
        f"{summary.p90_abs_error:.1%}",
        _percent(summary.bias),
        "-" if summary.skill is None else f"{summary.skill:.2f}",
    )


def _closing(report: ValidationReport) -> str:
    total, simulated = len(report.rows), len(report.simulated)
    doubtful = sum(row.doubtful for row, _ in report.simulated)
    left_out = (
        f" {doubtful} doubtful ones, or read off a plot, are left out of the errors." if doubtful else ""
    )
    lines = [f"{total} rows: {simulated} simulated, {total - simulated} skipped.{left_out}"]
    errors, memory = report.errors, report.memory_errors
    if errors:
        skill = (
            "" if errors.skill is None else f", {errors.skill:.2f} of the best constant utilisations' error"
        )
        lines.append(
            f"Throughput: mean absolute error {errors.mean_abs_error:.1%}, "
            f"median {errors.median_abs_error:.1%}, p90 {errors.p90_abs_error:.1%}, "
            f"bias {_percent(errors.bias)}{skill}."
        )
    if unseen := report.unseen_errors:
        lines.append(
            f"Constants fitted without the row's source: mean absolute error {unseen.mean_abs_error:.1%}, "
            f"median {unseen.median_abs_error:.1%}, p90 {unseen.p90_abs_error:.1%}."
        )
    if sweeps := report.layout_sweeps:
        middle = median(sweep.rank_correlation for sweep in sweeps)
        chosen = sum(sweep.choice for sweep in sweeps) / len(sweeps)
        lines.append(
            f"{len(sweeps)} sweeps over layouts: median rank correlation {middle:.2f}; the layout predicted "
            f"to be the fastest yields {chosen:.1%} of the best."
        )
    lines += [
        f"Campaign {campaign.id}: {campaign.stepping_hours / 1e6:.1f} million GPU hours of steps, "
        f"{campaign.with_interruptions_hours / 1e6:.1f} with interruptions, "
        f"{campaign.published_hours / 1e6:.2f} published."
        for campaign in report.campaigns
    ]
    if memory:
        lines.append(
            f"Peak memory ({memory.rows} rows): mean absolute error {memory.mean_abs_error:.1%}, "
            f"bias {_percent(memory.bias)}."
        )
    if fits := report.fits:
        lines.append(
            f"Fits or not: {fits.share_right:.1%} right; {fits.finished_right} of {fits.finished} runs that "
            f"finished, {fits.failed_right} of {fits.failed} that ran out of memory."
        )
    lines.append("An error above zero means that the prediction is too fast (or too much memory).")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{share:+.1%}"
