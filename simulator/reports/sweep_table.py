"""A sweep as a table of text, in the column order of Megatron-Bridge's performance summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from simulator.explore.columns import LAYOUT
from simulator.reports.metric_text import value_text

if TYPE_CHECKING:
    from simulator.explore import SweepTable

_SHOWN = {
    "gpu": "GPU",
    "gpus": "GPUs",
    "precision": "format",
    "gbs": "gbs",
    "mbs": "mbs",
    "seq": "seq",
    "tp": "tp",
    "pp": "pp",
    "cp": "cp",
    "vpp": "vpp",
    "ep": "ep",
    "tokens_per_s_per_gpu": "tokens/s\n/GPU",
    "tflops_per_gpu": "TFLOP/s\n/GPU",
    "mfu": "MFU",
    "bubble_fraction": "bubble",
    "peak_memory_bytes": "memory",
    "step_time_s": "step",
}
_NOT_SHOWN = frozenset({"dp", "num_microbatches", "hfu", "fits", "problem"})


def sweep_table(table: SweepTable) -> RenderableType:
    """Draw one line per point; what does not fit is marked, what is not possible keeps its reason below.

    Settings that are the same in all points stand above the table.
    """
    rows = table.rows()
    shown = [name for name in (rows[0] if rows else {}) if name not in _NOT_SHOWN]
    names = [name for name in shown if name not in LAYOUT or len({str(row[name]) for row in rows}) > 1]
    common = [f"{_SHOWN[name]} {_cell(name, rows[0][name])}" for name in shown if name not in names]
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        justify: Literal["left", "right"] = "left" if name in {"gpu", "precision"} else "right"
        drawn.add_column(
            _SHOWN.get(name, name.rpartition(".")[2]), justify=justify, no_wrap=True, vertical="bottom"
        )
    drawn.add_column("", no_wrap=True)
    reasons: list[str] = []
    for row in rows:
        remark = "does not fit" if row["fits"] is False else ""
        if row["problem"]:
            if row["problem"] not in reasons:
                reasons.append(str(row["problem"]))
            remark = f"not possible ({reasons.index(str(row['problem'])) + 1})"
        style = "dim" if remark else ""
        drawn.add_row(*(_cell(name, row[name]) for name in names), remark, style=style)
    notes = [
        Padding(Text(f"({number}) {reason}"), (0, 0, 0, 2)) for number, reason in enumerate(reasons, start=1)
    ]
    return Group(
        Text(table.scenario.name, style="bold"), Text(", ".join(common), style="dim"), Text(), drawn, *notes
    )


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and name in _SHOWN:
        return value_text(name, value)
    return f"{value:,}" if isinstance(value, int) else str(value)
