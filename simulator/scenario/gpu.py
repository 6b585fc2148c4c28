"""An accelerator: datasheet numbers and what measured kernels reach of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulator.scenario.provenance import Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmEfficiency:
    """What matrix multiplication reaches: ``t = launch + (t_compute^p + t_memory^p)^(1/p)``.

    Attributes:
        sustained_fraction: Share of the peak that a large GEMM sustains in training (power included).
        memory_fraction: Share of the HBM bandwidth that operand traffic reaches.
        ramp_s: Fixed device time of one kernel: prologue, epilogue and tail.
        smoothness: The exponent p between the compute and the memory limit.
        tile_efficiency: Efficiency of 256x128, 128x128, 128x64 and 64x64 output tiles, relative to the best.
    """

    sustained_fraction: float
    memory_fraction: float
    ramp_s: float
    smoothness: float
    tile_efficiency: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionEfficiency:
    """What one attention kernel reaches: ``peak x fraction x s / (s + half_length)``, Dao's FLOP convention.

    Attributes:
        forward_fraction: Share of the dense peak that a long forward pass reaches.
        backward_fraction: The same of the backward pass (2.5 times the forward FLOPs).
        half_length: Sequence length at which half of that is reached, in tokens.
    """

    forward_fraction: float
    backward_fraction: float
    half_length: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """An accelerator as one rank sees it.

    Attributes:
        name: Catalogue name.
        peak_flop_per_s: Dense peak by number format (``fp32``, ``tf32``, ``bf16``, ``fp16``, ``fp8``, ``fp4``).
        memory_bytes: HBM capacity.
        memory_bytes_per_s: HBM bandwidth.
        multiprocessors: Streaming multiprocessors (compute units, tensor cores of a TPU).
        scale_up_bytes_per_s: One-way bandwidth of one GPU into its scale-up domain (NVLink, xGMI, ICI).
        scale_up_domain: GPUs that reach each other at that bandwidth.
        scale_up_latency_s: Latency of one hop inside the domain.
        has_in_network_reduction: Whether switches of the domain add up (NVLink SHARP).
        gpus_per_node: GPUs of one host.
        network_bytes_per_s: One-way scale-out bandwidth per GPU of the usual server.
        tdp_watts: Power limit.
        gemm: GEMM efficiency by number format; the format's entry or that of ``bf16``.
        attention: Attention efficiency by kernel (``unfused`` is priced from GEMMs and memory instead).
        elementwise_fraction: Share of the HBM bandwidth that memory-bound kernels reach.
        sources: Provenance of every field, by field path.
    """

    name: str
    peak_flop_per_s: Mapping[str, float]
    memory_bytes: float
    memory_bytes_per_s: float
    multiprocessors: int
    scale_up_bytes_per_s: float
    scale_up_domain: int
    scale_up_latency_s: float
    has_in_network_reduction: bool
    gpus_per_node: int
    network_bytes_per_s: float
    tdp_watts: float
    gemm: Mapping[str, GemmEfficiency]
    attention: Mapping[str, AttentionEfficiency]
    elementwise_fraction: float
    sources: Sources = field(default_factory=dict, compare=False, repr=False)
