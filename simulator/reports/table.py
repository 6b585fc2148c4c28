"""The answer of one run as one readable screen of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from simulator.reports.derived import layout_text, size_lines
from simulator.reports.memory_table import memory_table
from simulator.reports.metric_text import label, large_text, value_text
from simulator.reports.pairs import heading, pairs
from simulator.results.flops import CONVENTION_TEXTS, DEFAULT_CONVENTION
from simulator.units import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.results.breakdown import Breakdown
    from simulator.results.result import Result

_BAR_WIDTH = 36


def result_table(result: Result) -> RenderableType:
    """Draw headline numbers, breakdown, memory, derived sizes and the published result, in that order."""
    scenario = result.scenario
    parts: list[RenderableType] = [
        Text(scenario.name, style="bold"),
        Text(layout_text(scenario), style="dim"),
        Text(),
        pairs(_headline(result), strong=True),
        heading(f"Where the {format_time(result.metrics['step_time_s'])} go (mean over pipeline ranks)"),
        breakdown_table(result.breakdown),
        heading("Memory per GPU"),
        memory_table(result.memory),
        heading("Sizes"),
        pairs(size_lines(scenario)),
    ]
    if scenario.measured is not None:
        parts += [heading(f"Published: {scenario.measured.source}"), measured_table(result)]
    return Group(*parts)


_ROUNDING = 1e-12
"""Shares below this are the rounding of sums, not time."""


def breakdown_table(breakdown: Breakdown) -> Table:
    """Draw seconds, shares and bars of what a step's time goes into; categories without time are left out."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for justify in ("left", "right", "right", "left"):
        table.add_column(justify=justify)
    total = breakdown.total_s
    for name, seconds in breakdown.as_dict().items():
        share = seconds / total
        if share > _ROUNDING:
            bar = Bar(1.0, 0.0, share, width=_BAR_WIDTH)
            table.add_row(f"  {_category(name)}", format_time(seconds), f"{share:.1%}", bar)
    return table


def measured_table(result: Result) -> Table:
    """Set each published value beside the prediction."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("  metric", "predicted", "published", "error"):
        table.add_column(name, justify="left" if name.startswith(" ") else "right")
    values = result.scenario.measured.values if result.scenario.measured else {}
    for name, published in values.items():
        predicted = result.metrics.get(name)
        shown = "-" if predicted is None else value_text(name, predicted)
        error = "-" if predicted is None or not published else f"{predicted / published - 1:+.1%}"
        table.add_row(f"  {label(name)}", shown, value_text(name, published), error)
    return table


def _headline(result: Result) -> list[tuple[str, str]]:
    metrics = result.metrics
    tokens = f"{metrics['tokens_per_s_per_gpu']:,.1f} tokens/s per GPU"
    lines = [
        (
            "throughput",
            f"{metrics['tflops_per_gpu']:.1f} TFLOP/s per GPU; {CONVENTION_TEXTS[DEFAULT_CONVENTION]}",
        ),
        ("", f"{metrics['tflops_per_gpu_full']:.1f} with {CONVENTION_TEXTS['full']}"),
        ("MFU", f"{metrics['mfu']:.1%} of {result.mfu_peak}; HFU {metrics['hfu']:.1%}"),
        ("step time", format_time(metrics["step_time_s"])),
        ("tokens", f"{tokens}, {large_text(metrics['tokens_per_s'])} tokens/s in all"),
    ]
    if "days" in metrics:
        lines.append(
            ("training", f"{large_text(result.scenario.training.tokens or 0.0)} tokens: {_budget(metrics)}")
        )
    return lines


def _budget(metrics: Mapping[str, float]) -> str:
    """Say what the whole training takes, failures and restarts left out."""
    text = f"{metrics['days']:,.1f} days, {large_text(metrics['gpu_hours'])} GPU hours"
    if "cost_dollars" in metrics:
        text += f", {large_text(metrics['cost_dollars'])} dollars"
    return f"{text}; without failures and restarts"


def _category(name: str) -> str:
    if name.startswith("exposed_"):
        return f"exposed {name.removeprefix('exposed_')} communication"
    return {"overhead": "step overhead", "bubble": "pipeline bubble"}.get(name, name)
