"""Schema of a software stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from simulator.catalogue.entry import Entry
from simulator.documents import Bytes, Name, PositiveBytes, Seconds, Sourced, Strict
from simulator.scenario import Overlap, Provenance, Software

Fusion = Literal[
    "norm",
    "bias_activation",
    "rope",
    "dropout_add",
    "softmax",
    "cross_entropy",
    "gated_product",
    "gradient_accumulation",
]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class OverlapEntry(Strict):
    """Which communication runs beside computation."""

    grad_reduce: bool
    """Gradient reduction beside the last backward passes."""
    param_gather: bool
    """Parameter gathering beside the first forward passes."""
    p2p: bool
    """Pipeline transfers beside computation."""
    tp: bool
    """Tensor-parallel collectives, in pieces, beside the matrix multiplications that need them."""


class SoftwareEntry(Entry):
    """A training stack's habits."""

    entry_kind: ClassVar[str] = "software"

    attention: Sourced[Literal["unfused", "flash1", "flash2", "flash3", "cudnn"]]
    """Attention kernel it uses unless the scenario says otherwise."""
    fused: Sourced[list[Fusion]]
    """Element-wise operations that it runs as one kernel."""
    kernel_launch: Sourced[Seconds]
    """Host time to launch one kernel."""
    overlap: Sourced[OverlapEntry]
    """What it overlaps unless the scenario says otherwise."""
    wgrad_overlaps_tp: Sourced[bool]
    """Whether backward tensor-parallel collectives run beside weight-gradient GEMMs."""
    bucket: Sourced[PositiveBytes]
    """Size of one gradient-reduction bucket."""
    grad_dtype: Sourced[Literal["fp32", "bf16", "fp16"]]
    """Number format of gradient accumulation and reduction."""
    step_overhead: Sourced[Seconds]
    """Fixed time of a step that nothing hides."""
    optimizer_bytes_per_parameter: Sourced[Amount]
    """HBM traffic of the optimizer step per parameter of the rank's shard."""
    framework_memory: Sourced[Bytes]
    """Memory that the framework, CUDA context and communicators hold."""
    memory_fragmentation: Sourced[Share]
    """Share of the allocated memory lost to the allocator."""
    matches: list[Name] = Field(default_factory=list)
    """Regular expressions of the names under which publications mention exactly this stack."""
    nearest_for: list[Name] = Field(default_factory=list)
    """Regular expressions of the names of other stacks that this one stands in for."""

    @field_validator("overlap", mode="before")
    @classmethod
    def _bare_overlap(cls, value: object) -> object:
        """Accept the four switches without ``value:`` around them."""
        if isinstance(value, Mapping) and "value" not in value:
            return {"value": value, "source": "stated without a source", "kind": "assumed"}
        return value

    def to_scenario(self, name: str) -> Software:
        """Return the stack as scenario data, with the provenance of every number."""
        return Software(
            name=self.name or name,
            attention=self.attention.value,
            fused=frozenset(self.fused.value),
            kernel_launch_s=self.kernel_launch.value,
            overlap=Overlap(**self.overlap.value.model_dump()),
            wgrad_overlaps_tp=self.wgrad_overlaps_tp.value,
            bucket_bytes=self.bucket.value,
            grad_dtype=self.grad_dtype.value,
            step_overhead_s=self.step_overhead.value,
            optimizer_bytes_per_parameter=float(self.optimizer_bytes_per_parameter.value),
            framework_bytes=self.framework_memory.value,
            memory_fragmentation=float(self.memory_fragmentation.value),
            sources=self._sources(),
        )

    def _sources(self) -> dict[str, Provenance]:
        numbers: dict[str, Sourced[Any]] = {
            "attention": self.attention,
            "fused": self.fused,
            "kernel_launch_s": self.kernel_launch,
            "overlap": self.overlap,
            "wgrad_overlaps_tp": self.wgrad_overlaps_tp,
            "bucket_bytes": self.bucket,
            "grad_dtype": self.grad_dtype,
            "step_overhead_s": self.step_overhead,
            "optimizer_bytes_per_parameter": self.optimizer_bytes_per_parameter,
            "framework_bytes": self.framework_memory,
            "memory_fragmentation": self.memory_fragmentation,
        }
        return {path: self.provenance(number) for path, number in numbers.items()}
