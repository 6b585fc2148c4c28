"""The answer to a search as text: the best layouts, what each lost to the first, why the others lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from simulator.explore.search.table import RANKS, SearchTable
from simulator.reports.metric_text import large_text, value_text
from simulator.scenario.search import NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.explore.search.table import Layout

_SHORT = {path: name for name, path in NAMES.items()}
_MEASURES = ("tokens/s", "TFLOP/s/GPU", "step", "bubble", "memory")


def search_table(table: SearchTable) -> RenderableType:
    """Draw the best layouts, the front, and how many lost by which reason.

    Settings that are the same in all of the best stand above the table.
    """
    free = list(table.best[0].layout.settings) if table.best else []
    varied = [path for path in free if len({str(each.layout.settings[path]) for each in table.best}) > 1]
    parts: list[RenderableType] = [
        Text(table.scenario.name, style="bold"),
        Text(_summary(table), style="dim"),
    ]
    if table.best:
        same = [_setting(path, table.best[0].layout.settings) for path in free if path not in varied]
        if same:
            parts.append(Text(f"All of the best: {', '.join(same)}", style="dim"))
        parts += [Text(), _best(table, varied)]
    else:
        parts += [Text(), Text("No layout is possible, fits and reaches the target.")]
    if table.front:
        parts += [Text(), *_front(table, free)]
    parts += [Text(), Text("Why the others lost"), _lost(table)]
    return Group(*parts)


def _summary(table: SearchTable) -> str:
    return (
        f"{table.size:,} combinations, {table.num_possible:,} distinct layouts that the rules allow, "
        f"{table.num_simulated:,} simulated, {table.elapsed_s:.1f} s; "
        f"ranked by {RANKS[table.search.rank_by]} {_proof(table)}"
    )


def _proof(table: SearchTable) -> str:
    """Say for which engine the ranking holds."""
    engine = table.scenario.engine
    if engine != "event":
        return f"of the {engine} engine, as in run --engine {engine}"
    return f"of the event engine, as in run ({table.num_timed:,} timed by it, the others cannot be better)"


def _grid() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def _best(table: SearchTable, varied: Sequence[str]) -> Table:
    drawn = _grid()
    has_price = table.scenario.cluster.price_per_gpu_hour is not None
    cost = "$/Mtoken" if has_price else "GPU h/Mtoken"
    measures = [*_MEASURES, *([cost] if table.search.rank_by == "cost" else [])]
    for name in ["", *(_SHORT.get(path, path.rpartition(".")[2]) for path in varied), *measures]:
        drawn.add_column(name, justify="right", no_wrap=True)
    drawn.add_column("against the best", no_wrap=True)
    for rank, each in enumerate(table.best, start=1):
        metrics = each.result.metrics
        cells = [
            large_text(each.layout.tokens_per_s),
            value_text("tflops_per_gpu", metrics["tflops_per_gpu"]),
            value_text("step_time_s", each.layout.step_time_s),
            value_text("bubble_fraction", metrics["bubble_fraction"]),
            value_text("peak_memory_bytes", each.layout.peak_memory_bytes),
        ]
        if table.search.rank_by == "cost":
            cells.append(f"{each.layout.cost_per_token * 1e6:.3g}")
        loss = ""
        if each.lost_by is not None:
            loss = f"+{value_text('step_time_s', each.lost_by[1])} {each.lost_by[0].replace('_', ' ')}"
        settings = [_value(each.layout.settings[path]) for path in varied]
        drawn.add_row(str(rank), *settings, *cells, loss)
    return drawn


def _front(table: SearchTable, free: Sequence[str]) -> list[RenderableType]:
    other = "peak memory" if table.search.front == "memory" else "number of GPUs"
    varied = [path for path in free if len({str(each.settings[path]) for each in table.front}) > 1]
    drawn = _grid()
    names = ["tokens/s", "memory", "GPUs", *(_SHORT.get(path, path.rpartition(".")[2]) for path in varied)]
    for name in names:
        drawn.add_column(name, justify="right", no_wrap=True)
    for each in table.front:
        drawn.add_row(*_point(each), *(_value(each.settings[path]) for path in varied))
    return [Text(f"Front: nothing is better in both throughput and {other}"), drawn]


def _point(layout: Layout) -> list[str]:
    memory = value_text("peak_memory_bytes", layout.peak_memory_bytes)
    return [large_text(layout.tokens_per_s), memory, f"{layout.gpus:,}"]


def _lost(table: SearchTable) -> Table:
    drawn = _grid()
    drawn.add_column(justify="right", no_wrap=True)
    drawn.add_column()
    drawn.show_header = False
    for reason, count in sorted(table.lost.items(), key=lambda pair: -pair[1]):
        drawn.add_row(f"{count:,}", reason)
    return drawn


def _setting(path: str, settings: Mapping[str, object]) -> str:
    return f"{_SHORT.get(path, path)} {_value(settings[path])}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(str, value))}]"  # as --set takes it
    return "usual" if value is None else str(value)
