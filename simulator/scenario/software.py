"""A software stack: what it fuses, what it overlaps, what each step costs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.scenario.provenance import Sources
    from simulator.scenario.training import Overlap


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """A training stack's habits; each number has a physical meaning and a source.

    Attributes:
        name: Catalogue name, for example ``megatron-core``.
        attention: Attention kernel it uses unless the scenario says otherwise.
        fused: Element-wise operations that it runs as one kernel: any of ``norm``, ``bias_activation``,
            ``rope``, ``dropout_add``, ``softmax``, ``cross_entropy``; ``gated_product``: the backward pass of
            a gated activation makes its result again instead of keeping it; ``gradient_accumulation``: the
            weight-gradient GEMM adds to the accumulated gradient by itself.
        kernel_launch_s: Host time to launch one kernel; a layer cannot run faster than its launches.
        overlap: What it overlaps unless the scenario says otherwise.
        wgrad_overlaps_tp: Whether backward tensor-parallel collectives run beside weight-gradient GEMMs.
        bucket_bytes: Size of one gradient-reduction bucket.
        grad_dtype: Number format of gradient accumulation and reduction.
        step_overhead_s: Fixed time of a step that nothing hides: data, logging, host synchronisation.
        optimizer_bytes_per_parameter: HBM traffic of the optimizer step per parameter of the rank's shard.
        framework_bytes: Memory that the framework, CUDA context and communicators hold.
        memory_fragmentation: Share of the allocated memory lost to the allocator.
        sources: Provenance of every field.
    """

    name: str
    attention: str
    fused: frozenset[str]
    kernel_launch_s: float
    overlap: Overlap
    wgrad_overlaps_tp: bool
    bucket_bytes: float
    grad_dtype: str
    step_overhead_s: float
    optimizer_bytes_per_parameter: float
    framework_bytes: float
    memory_fragmentation: float
    sources: Sources = field(default_factory=dict, compare=False, repr=False)
