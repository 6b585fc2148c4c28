"""The numbers that people quote, as pure functions of times, FLOPs and tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.errors import InputError
from simulator.results.flops import (
    CONVENTIONS,
    DEFAULT_CONVENTION,
    hardware_flops_per_step,
    model_flops_per_step,
)
from simulator.results.waiting import CATEGORIES
from simulator.scenario.training import number_format

if TYPE_CHECKING:
    from simulator.results.breakdown import Breakdown
    from simulator.results.memory import MemoryReport
    from simulator.scenario.cluster import Cluster
    from simulator.scenario.scenario import Scenario

METRICS = (
    "step_time_s",
    "tflops_per_gpu",
    *(f"tflops_per_gpu_{convention}" for convention in CONVENTIONS),
    "mfu",
    "hfu",
    "tokens_per_s_per_gpu",
    "tokens_per_s",
    "samples_per_s",
    "bubble_fraction",
    "exposed_communication_fraction",
    *(f"{name}_fraction" for name in CATEGORIES if name.startswith("exposed")),
    "peak_memory_bytes",
    "days",
    "gpu_hours",
    "cost_dollars",
)
"""Names of all metrics, in their order; see ``step_metrics``."""
_SECONDS_PER_HOUR = 3600.0
_HOURS_PER_DAY = 24.0


def flop_per_s_per_gpu(flops: float, step_time_s: float, gpus: int) -> float:
    """Return the rate at which one GPU works.

    >>> flop_per_s_per_gpu(4e15, 1.0, 10)
    400000000000000.0
    """
    return flops / step_time_s / gpus


def peak_flop_per_s(cluster: Cluster, precision: str) -> float:
    """Return the dense peak that utilisation is measured against: of the mean GPU, where they differ.

    Raises:
        InputError: A GPU has no peak in this number format.
    """
    peak = cluster.peak_flop_per_s(number_format(precision))
    if not peak:
        known = ", ".join(name for name, value in cluster.gpu.peak_flop_per_s.items() if value)
        raise InputError(f"{cluster.gpu_name} has no {precision} peak; it has {known}")
    return peak


def peak_name(cluster: Cluster, precision: str) -> str:
    """Name the peak, for example ``989 TFLOP/s bf16 dense (h100-80gb-sxm)``."""
    mean = "mean of " if cluster.pools else ""
    peak = peak_flop_per_s(cluster, precision) / 1e12
    return f"{peak:.6g} TFLOP/s {number_format(precision)} dense ({mean}{cluster.gpu_name})"


def training_days(tokens: float, tokens_per_s: float) -> float:
    """Return the days of uninterrupted training on ``tokens``.

    >>> training_days(15e12, 2e6).__round__(1)
    86.8
    """
    return tokens / tokens_per_s / _SECONDS_PER_HOUR / _HOURS_PER_DAY


def _budget_metrics(
    tokens: float | None, tokens_per_s: float, gpus: int, price_per_gpu_hour: float | None
) -> dict[str, float]:
    """Return what the token budget takes; nothing without a budget, no dollars without a price."""
    if tokens is None:
        return {}
    days = training_days(tokens, tokens_per_s)
    gpu_hours = days * _HOURS_PER_DAY * gpus
    metrics = {"days": days, "gpu_hours": gpu_hours}
    if price_per_gpu_hour is None:
        return metrics
    return metrics | {"cost_dollars": gpu_hours * price_per_gpu_hour}


def _breakdown_metrics(breakdown: Breakdown, step_time_s: float) -> dict[str, float]:
    """Return the shares of the step that are lost, by reason."""
    parts = breakdown.as_dict()
    exposed = {f"{name}_fraction": parts[name] / step_time_s for name in parts if name.startswith("exposed")}
    return {
        "bubble_fraction": breakdown.bubble / step_time_s,
        "exposed_communication_fraction": breakdown.exposed_s / step_time_s,
    } | exposed


def step_metrics(
    scenario: Scenario, step_time_s: float, breakdown: Breakdown, memory: MemoryReport
) -> dict[str, float]:
    """Return every metric by name, in a fixed order.

    ``bubble_fraction`` and the exposed fractions are shares of the step time. ``tflops_per_gpu``, and the
    ``mfu`` that follows from it, count model FLOPs in the default convention; the same rate is given in every
    convention as ``tflops_per_gpu_<convention>``. ``days``, ``gpu_hours`` and ``cost_dollars`` appear when
    the scenario has a token budget and a price.

    Args:
        scenario: The request.
        step_time_s: Seconds of one step.
        breakdown: Where they go.
        memory: What each rank holds.

    Raises:
        InputError: The GPU has no peak in the scenario's precision.
    """
    model, training, gpus = scenario.model, scenario.training, scenario.cluster.gpus
    peak = peak_flop_per_s(scenario.cluster, training.precision)
    rates = {
        convention: flop_per_s_per_gpu(model_flops_per_step(model, training, convention), step_time_s, gpus)
        for convention in CONVENTIONS
    }
    hardware = flop_per_s_per_gpu(hardware_flops_per_step(model, training), step_time_s, gpus)
    tokens_per_s = scenario.tokens_per_step / step_time_s
    return {
        "step_time_s": step_time_s,
        "tflops_per_gpu": rates[DEFAULT_CONVENTION] / 1e12,
        **{f"tflops_per_gpu_{convention}": rate / 1e12 for convention, rate in rates.items()},
        "mfu": rates[DEFAULT_CONVENTION] / peak,
        "hfu": hardware / peak,
        "tokens_per_s_per_gpu": tokens_per_s / gpus,
        "tokens_per_s": tokens_per_s,
        "samples_per_s": training.global_batch_size / step_time_s,
        **_breakdown_metrics(breakdown, step_time_s),
        "peak_memory_bytes": memory.peak_bytes,
        **_budget_metrics(training.tokens, tokens_per_s, gpus, scenario.cluster.price_per_gpu_hour),
    }
