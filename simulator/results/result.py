"""The answer to a scenario."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING

from simulator.results.breakdown import Breakdown, step_breakdown
from simulator.results.flops import CONVENTION_TEXTS, CONVENTIONS, DEFAULT_CONVENTION
from simulator.results.metrics import peak_name, step_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.engines.timeline import Timeline
    from simulator.results.memory import MemoryReport
    from simulator.scenario.scenario import Measured, Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a simulation says.

    Attributes:
        scenario: The request.
        timeline: When every op of the step ran.
        metrics: Every metric by name; see ``step_metrics``.
        breakdown: Where the step's time goes, as the mean over pipeline ranks.
        breakdown_per_rank: The same for each pipeline rank.
        memory: What each pipeline rank holds and whether it fits.
        warnings: What the user should know before trusting the numbers.
    """

    scenario: Scenario
    timeline: Timeline = field(repr=False)
    metrics: Mapping[str, float]
    breakdown: Breakdown
    breakdown_per_rank: tuple[Breakdown, ...] = field(repr=False)
    memory: MemoryReport
    warnings: tuple[str, ...] = ()

    @property
    def mfu_peak(self) -> str:
        """The peak that MFU and HFU are measured against, by name."""
        return peak_name(self.scenario.cluster, self.scenario.training.precision)

    def to_dict(self) -> dict[str, object]:
        """Return plain data for JSON: stable keys in a stable order, null for what is unknown."""
        metrics = self.metrics
        plain = ("tokens_per_s_per_gpu", "tokens_per_s", "samples_per_s", "bubble_fraction")
        return {
            "name": self.scenario.name,
            "step_time_s": metrics["step_time_s"],
            "tflops_per_gpu": metrics["tflops_per_gpu"],
            "flops_convention": f"{DEFAULT_CONVENTION}: {CONVENTION_TEXTS[DEFAULT_CONVENTION]}",
            "tflops_per_gpu_by_convention": {name: metrics[f"tflops_per_gpu_{name}"] for name in CONVENTIONS},
            "mfu": metrics["mfu"],
            "mfu_peak": self.mfu_peak,
            "hfu": metrics["hfu"],
            **{name: metrics[name] for name in plain},
            "breakdown_s": self.breakdown.as_dict(),
            "breakdown_per_rank_s": [rank.as_dict() for rank in self.breakdown_per_rank],
            "memory": self.memory.to_dict(),
            "days": metrics.get("days"),
            "gpu_hours": metrics.get("gpu_hours"),
            "cost_dollars": metrics.get("cost_dollars"),
            "measured": _measured_dict(self.scenario.measured, metrics),
            "warnings": list(self.warnings),
            "digest": self.scenario.digest(),
            "version": metadata.version("training-parallelism-simulator"),
        }


def make_result(
    scenario: Scenario,
    timeline: Timeline,
    *,
    shares: Mapping[int, Mapping[str, float]],
    memory: MemoryReport,
    warnings: tuple[str, ...] = (),
) -> Result:
    """Draw every conclusion from a simulated step.

    Args:
        scenario: The request; its warnings come first in the result's.
        timeline: The step.
        shares: By work of the step's program its seconds by category; see ``step_breakdown``.
        memory: What each pipeline rank holds.
        warnings: Further warnings.
    """
    breakdown, per_rank = step_breakdown(timeline, shares)
    return Result(
        scenario=scenario,
        timeline=timeline,
        metrics=step_metrics(scenario, timeline.makespan_s, breakdown, memory),
        breakdown=breakdown,
        breakdown_per_rank=per_rank,
        memory=memory,
        warnings=scenario.warnings + warnings,
    )


def _measured_dict(measured: Measured | None, metrics: Mapping[str, float]) -> dict[str, object] | None:
    """Set each published value beside its prediction; ``error`` is predicted over published, less one."""
    if measured is None:
        return None
    values: dict[str, object] = {}
    for name, published in measured.values.items():
        predicted = metrics.get(name)
        error = None if predicted is None or not published else predicted / published - 1
        values[name] = {"published": published, "predicted": predicted, "error": error}
    return {"source": measured.source, "values": values}
