"""A prediction beside the published value, in the source's own metric and convention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from simulator.errors import RowError
from simulator.scenario.training import number_format
from simulator.validation.conventions import row_convention, stated_peak_tflops
from simulator.validation.stacks import stack_defaults

if TYPE_CHECKING:
    from simulator.results.flops import Convention
    from simulator.scenario import Scenario
    from simulator.validation.rows import Row
    from simulator.validation.stacks import MemoryQuantity

METRICS = (
    "step_time_s",
    "step_time_derived_s",
    "tokens_per_s_per_gpu",
    "samples_per_s_per_gpu",
    "tflops_per_gpu",
    "mfu",
)
"""What a row may state, the best first: conventions of counting FLOPs do not enter where a time is known."""

_SAME_PEAK = 0.25
_TIMES = ("step_time_s", "step_time_derived_s")

_LEFT_OUT: dict[MemoryQuantity, frozenset[str]] = {
    "allocated": frozenset({"framework", "fragmentation"}),
    "reserved": frozenset({"framework"}),
    "used": frozenset(),
}
"""Terms of memory that a quantity leaves out: ``allocated`` is what tensors took
(``torch.cuda.max_memory_allocated``), ``reserved`` adds what the allocator holds beyond them
(``max_memory_reserved``), ``used`` adds the CUDA context and the buffers of libraries that do not ask the
allocator (``nvidia-smi``). Only ``used`` tells what fits."""


class Answer(Protocol):
    """What a simulation returns, as far as validation reads it."""

    def to_dict(self) -> Mapping[str, object]:
        """Return the result as plain data."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One prediction beside one measurement.

    Attributes:
        metric: What is compared, a key of the row's ``measured``.
        predicted: The simulated value in that metric.
        published: The measured value.
        error: Predicted over measured throughput, less one: above zero where the prediction is too fast.
        convention: How FLOPs are counted, where the metric depends on it.
        measured_tflops: What the measurement means in causal-halved model TFLOP/s per GPU.
        tokens_per_s_per_gpu: Predicted speed.
        predicted_memory_bytes: Peak memory of the worst rank, all that has to fit.
        published_memory_bytes: Measured peak memory, where stated.
        memory_error: Predicted over measured peak memory, less one, where stated, both in the quantity that
            the source measures.
        fits: Whether the prediction fits into the GPU's memory.
        warnings: What had to be assumed to compare.
    """

    metric: str
    predicted: float
    published: float
    error: float
    convention: Convention | None
    measured_tflops: float
    tokens_per_s_per_gpu: float
    predicted_memory_bytes: float
    published_memory_bytes: float | None
    memory_error: float | None
    fits: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedMemory:
    """A measured peak.

    Attributes:
        peak_bytes: Its size.
        quantity: What was measured.
    """

    peak_bytes: float
    quantity: MemoryQuantity

    def predicted(self, ranks: Iterable[Mapping[str, float]]) -> float:
        """Return the same quantity of the rank that holds most of it, given bytes by term for each rank."""
        left_out = _LEFT_OUT[self.quantity]
        return max(sum(size for term, size in terms.items() if term not in left_out) for terms in ranks)


def stated_metric(row: Row) -> tuple[str, float]:
    """Return the best metric that a row states, and its value.

    Raises:
        RowError: The row states none.
    """
    for metric in METRICS:
        value = getattr(row.measured, metric)
        if value is not None:
            return metric, float(value)
    raise RowError("row states no speed to compare with")


def throughput_error(metric: str, predicted: float, published: float) -> float:
    """Return predicted over measured throughput, less one; a time counts by its inverse.

    >>> throughput_error("tokens_per_s_per_gpu", 1100.0, 1000.0)
    0.10000000000000009
    >>> throughput_error("step_time_s", 8.0, 10.0)
    0.25
    """
    return (published / predicted if metric in _TIMES else predicted / published) - 1


def compare(row: Row, scenario: Scenario, answer: Answer) -> Comparison:
    """Set a simulation's answer beside what the row states.

    Args:
        row: The published row.
        scenario: What was simulated.
        answer: Its result.

    Raises:
        RowError: The row states no speed.
    """
    metric, published = stated_metric(row)
    content = answer.to_dict()
    warnings: list[str] = []
    convention: Convention | None = None
    if metric in {"tflops_per_gpu", "mfu"}:
        convention, warning = row_convention(row)
        warnings += [warning] if warning else []
    training = scenario.training
    predicted = _predicted(metric, convention, content, training.seq_length)
    if metric == "mfu":
        precision = number_format(training.precision)
        predicted /= _peak_tflops(row.flops_convention, scenario.cluster.gpu.peak_flop_per_s, precision)
    error = throughput_error(metric, predicted, published)
    memory = _mapping(content["memory"])
    peak_bytes = _number(memory["peak_bytes"])
    stated = published_memory(row)
    measured_as = None if stated is None else stated.predicted(_terms(memory))
    return Comparison(
        metric=metric,
        predicted=predicted,
        published=published,
        error=error,
        convention=convention,
        measured_tflops=_number(content["tflops_per_gpu"]) / (1 + error),
        tokens_per_s_per_gpu=_number(content["tokens_per_s_per_gpu"]),
        predicted_memory_bytes=peak_bytes,
        published_memory_bytes=stated.peak_bytes if stated else None,
        memory_error=measured_as / stated.peak_bytes - 1 if stated and measured_as else None,
        fits=bool(memory["fits"]),
        warnings=tuple(warnings),
    )


def published_memory(row: Row) -> PublishedMemory | None:
    """Return the peak memory that a row states, in what its stack measures; None where it states none."""
    measured, defaults = row.measured, stack_defaults(row.software)
    quantity = row.memory_quantity or defaults.memory
    if measured.peak_memory_gib is not None:
        return PublishedMemory(peak_bytes=measured.peak_memory_gib * 2**30, quantity=quantity)
    if measured.peak_memory_gb is None:
        return None
    unit = 2**30 if defaults.memory_in_gib else 1e9
    return PublishedMemory(peak_bytes=measured.peak_memory_gb * unit, quantity=quantity)


def _predicted(
    metric: str, convention: Convention | None, content: Mapping[str, object], seq_length: int
) -> float:
    """Return the predicted value of a metric; for an MFU, the TFLOP/s that it is the share of the peak of."""
    if metric in _TIMES:
        return _number(content["step_time_s"])
    if metric == "tokens_per_s_per_gpu":
        return _number(content["tokens_per_s_per_gpu"])
    if metric == "samples_per_s_per_gpu":
        return _number(content["tokens_per_s_per_gpu"]) / seq_length
    return _number(_mapping(content["tflops_per_gpu_by_convention"])[str(convention)])


def _peak_tflops(flops_convention: str | None, peaks: Mapping[str, float], precision: str) -> float:
    """Return the peak that the row's MFU refers to: the stated one if it can be this GPU's, else its own.

    Sources that cover several GPUs name several peaks; one that is near neither the bf16 peak nor that of the
    precision belongs to another GPU.

    Args:
        flops_convention: What the source says about its count of FLOPs.
        peaks: Peak FLOP/s of the simulated GPU by number format.
        precision: Number format of the GEMMs.
    """
    own = peaks.get(precision, peaks["bf16"] if "bf16" in peaks else peaks["fp16"]) * 1e-12
    stated = stated_peak_tflops(flops_convention or "", precision)
    candidates = [own, peaks.get("bf16", 0.0) * 1e-12]
    near = stated is not None and any(abs(stated / peak - 1) < _SAME_PEAK for peak in candidates if peak)
    return stated if near and stated is not None else own


def _terms(memory: Mapping[str, object]) -> list[Mapping[str, float]]:
    """Return what each pipeline rank holds, in bytes by term."""
    ranks = memory["ranks"]
    if not isinstance(ranks, list):
        raise TypeError(f"expected a list of ranks in the result, got {ranks!r}")
    return [
        {str(name): _number(size) for name, size in _mapping(_mapping(rank)["terms_bytes"]).items()}
        for rank in ranks
    ]


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"expected a mapping in the result, got {value!r}")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number in the result, got {value!r}")
    return float(value)
