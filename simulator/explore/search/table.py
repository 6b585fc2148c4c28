"""What a search found: the best layouts, the front, and why the others lost."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.results.result import Result
    from simulator.scenario import Scenario, Search

RANKS = {
    "throughput": "tokens per second",
    "cost": "GPU hours or dollars per token",
    "gpus": "GPUs that reach the target, then tokens per second",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One layout.

    Attributes:
        settings: Dotted path of every free setting to its value.
        gpus: GPUs of the job.
        step_time_s: Seconds of a step.
        tokens_per_s: Tokens that the whole job trains on per second.
        peak_memory_bytes: What its fullest GPU holds.
        cost_per_token: GPU hours per token; dollars where the scenario has a price.
    """

    settings: Mapping[str, object]
    gpus: int
    step_time_s: float
    tokens_per_s: float
    peak_memory_bytes: float
    cost_per_token: float

    def to_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        names = ("gpus", "step_time_s", "tokens_per_s", "peak_memory_bytes", "cost_per_token")
        return {"settings": dict(self.settings), **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One of the best layouts.

    Attributes:
        layout: The layout.
        result: Its whole simulation.
        lost_by: Against the best: the term of the breakdown that grew most, and by how many seconds; None for
            the best, and where no term grew.
    """

    layout: Layout
    result: Result
    lost_by: tuple[str, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTable:
    """The answer to a search.

    Attributes:
        scenario: What was searched.
        search: How.
        best: The best layouts, best first.
        front: The layouts that nothing beats in both throughput and the other respect, fastest first.
        simulated: All layouts that were simulated and fit; those that cannot be among the best, nor on the
            front, are timed by the compiled engine.
        size: Combinations of all values.
        num_possible: Distinct layouts among them that the rules allow.
        lost: Why layouts are not among the best, and how many lost by each reason.
        elapsed_s: How long the search took.
        num_simulated: Layouts that were simulated.
        num_timed: Layouts that were timed by the engine of ``run``.
    """

    scenario: Scenario
    search: Search
    best: tuple[Ranked, ...]
    front: tuple[Layout, ...]
    simulated: tuple[Layout, ...]
    size: int
    num_possible: int
    lost: Mapping[str, int]
    elapsed_s: float
    num_simulated: int
    num_timed: int

    def rows(self) -> list[dict[str, object]]:
        """Return a row for each of the best layouts."""
        rows = []
        for rank, each in enumerate(self.best, start=1):
            metrics = each.result.metrics
            rows.append(
                {
                    "rank": rank,
                    **each.layout.settings,
                    "gpus": each.layout.gpus,
                    "dp": each.result.scenario.parallelism.dp,
                    "num_microbatches": each.result.scenario.num_microbatches,
                    "tokens_per_s": each.layout.tokens_per_s,
                    "tflops_per_gpu": metrics["tflops_per_gpu"],
                    "step_time_s": each.layout.step_time_s,
                    "mfu": metrics["mfu"],
                    "bubble_fraction": metrics["bubble_fraction"],
                    "peak_memory_bytes": each.layout.peak_memory_bytes,
                    "cost_per_token": each.layout.cost_per_token,
                    "lost_by": None if each.lost_by is None else each.lost_by[0],
                    "lost_by_s": None if each.lost_by is None else each.lost_by[1],
                }
            )
        return rows

    def to_dict(self) -> dict[str, object]:
        """Return the search as plain data for JSON: the best layouts with their whole results."""
        best = [
            {
                **each.layout.to_dict(),
                "lost_by": None if each.lost_by is None else dict([each.lost_by]),
                "result": each.result.to_dict(),
            }
            for each in self.best
        ]
        free = {path: "auto" if values is None else list(values) for path, values in self.search.free.items()}
        return {
            "name": self.scenario.name,
            "rank_by": self.search.rank_by,
            "free": free,
            "size": self.size,
            "possible": self.num_possible,
            "simulated": self.num_simulated,
            "lost": dict(self.lost),
            "elapsed_s": self.elapsed_s,
            "best": best,
            "front": [each.to_dict() for each in self.front],
        }

    def to_csv(self) -> str:
        """Return the rows as CSV with a header; an unknown value is an empty field."""
        rows = self.rows()
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else ["rank"], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            cells = {
                name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()
            }
            writer.writerow(cells)
        return text.getvalue()
