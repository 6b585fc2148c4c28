"""Many steps as text: their spread, and what each straggler costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from simulator.reports.derived import layout_text
from simulator.units import format_time

if TYPE_CHECKING:
    from simulator.explore.montecarlo import MonteCarlo


def montecarlo_table(found: MonteCarlo) -> RenderableType:
    """Draw the distribution of step times and the dearest stragglers."""
    steps, mean, quiet = len(found.step_times_s), found.mean_s, found.quiet_s
    tokens = found.scenario.tokens_per_step
    longer = mean / quiet - 1
    low, high, highest = (format_time(found.percentile_s(percent)) for percent in (5, 95, 99))
    lines = [
        f"{steps:,} steps, seed {found.scenario.seed}; every GPU has a speed of its own",
        "",
        f"  all GPUs alike  {format_time(quiet)}, {tokens / quiet:,.0f} tokens/s, {_as_run(found)}",
        f"  mean step       {format_time(mean)}, {tokens / mean:,.0f} tokens/s, {longer:+.1%}",
        f"  5% to 95%       {low} to {high}, 99% {highest}",
        "",
    ]
    heading = Text(found.scenario.name, style="bold")
    parts: list[RenderableType] = [heading, Text(layout_text(found.scenario), style="dim"), Text()]
    parts.append(Text("\n".join(lines)))
    if found.stragglers:
        parts += [Text("What single GPUs cost: the mean step less that with this GPU as the mean one is")]
        parts.append(_stragglers(found))
    if found.left_out:
        text = f"{found.left_out:,} more stragglers slow these steps; their own cost was not looked for"
        parts.append(Text(text, style="dim"))
    return Group(*parts)


def _as_run(found: MonteCarlo) -> str:
    """Say what the step is whose GPUs are all alike."""
    cluster = found.scenario.cluster
    if not cluster.gpu.speed_spread or cluster.gpus == 1:
        return "as run has it"
    return f"as run has it: each as slow as the slowest of {cluster.gpus:,} usually is"


def _stragglers(found: MonteCarlo) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("GPU", "pipeline rank", "replica", "its kernels", "cost", "of the step"):
        table.add_column(name, justify="right", no_wrap=True)
    for cost in found.stragglers:
        table.add_row(
            f"{cost.gpu:,}",
            str(cost.pipeline_rank),
            str(cost.replica),
            f"{cost.slowdown:.3f} x",
            format_time(cost.cost_s),
            f"{cost.share:.2%}",
        )
    return table
