"""An accelerator: datasheet numbers and what measured kernels reach of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from simulator.scenario.content import content_hash

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.scenario.provenance import Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmEfficiency:
    """What matrix multiplication reaches; ``costs.gemm`` holds the formula.

    Attributes:
        sustained_fraction: Share of the peak that full waves of large tiles sustain in training, power
            included.
        memory_fraction: Share of the HBM bandwidth that operand traffic reaches.
        exposed_store_fraction: Share of the result's write that the main loop does not hide.
        ramp_s: Fixed device time of one kernel: prologue, first loads and drain.
        smoothness: Exponent p that joins compute time and memory time, ``(t_c^p + t_m^p)^(1/p)``.
        tile_efficiency: Efficiency of 256x128, 128x128, 128x64 and 64x64 output tiles, relative to the best.
        group_ramp_s: Fixed time of each further group of a grouped GEMM: 0 where one kernel runs all groups.
    """

    sustained_fraction: float
    memory_fraction: float
    exposed_store_fraction: float
    ramp_s: float
    smoothness: float
    tile_efficiency: tuple[float, float, float, float]
    group_ramp_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionPass:
    """What one direction of a fused attention kernel reaches; ``costs.attention`` holds the formula.

    Attributes:
        fraction: Share of the dense peak that very wide heads over very long sequences would reach.
        softmax_width: Head width whose matrix products take as long as the soft-max between them.
        overhead_length: Key positions that could be read in the fixed time of one block of queries.
        edge_length: Masked key positions computed in vain per query along one edge of the mask.
        block_rows: Rows that one thread block works on: queries forward, keys backward.
    """

    fraction: float
    softmax_width: float
    overhead_length: float
    edge_length: float
    block_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionEfficiency:
    """What one attention kernel reaches.

    Attributes:
        forward: The forward pass.
        backward: The backward pass (2.5 times the forward FLOPs in Dao's convention).
    """

    forward: AttentionPass
    backward: AttentionPass


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveEfficiency:
    """What large messages reach of ``scale_up_bytes_per_s``.

    The defaults are fitted on H100 (NCCL 2.18-2.29).

    Attributes:
        ring_fraction: Ring collectives and point-to-point messages: bytes that a rank sends to its neighbour.
        reduction_fraction: All-reduce in the switches (NVLink SHARP): bytes that a rank sends to them.
        exchange_fraction: All-to-all.
    """

    ring_fraction: float = 0.794
    reduction_fraction: float = 0.702
    exchange_fraction: float = 0.728


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerRelief:
    """What resting between matrix products yields on a power-limited GPU; see ``costs.power``.

    Attributes:
        headroom: Gain of products that run alone and briefly over sustained ones.
        idle: Gain per share of time that the GPU waits.
        memory: Gain per share of time that memory-bound kernels run.
    """

    headroom: float
    idle: float
    memory: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """An accelerator as one rank sees it.

    Attributes:
        name: Catalogue name.
        peak_flop_per_s: Dense peak by format: ``fp32``, ``tf32``, ``bf16``, ``fp16``, ``fp8``, ``fp4``.
        memory_bytes: HBM capacity.
        memory_bytes_per_s: HBM bandwidth.
        multiprocessors: Streaming multiprocessors (compute units, tensor cores of a TPU).
        scale_up_bytes_per_s: One-way bandwidth of one GPU into its scale-up domain (NVLink, xGMI, ICI).
        scale_up_domain: GPUs that reach each other at that bandwidth.
        scale_up_latency_s: Latency of one hop inside the domain.
        partner_bytes_per_s: One-way bandwidth to the other die of the same card, over links of its own
            (MI250X); 0: as to any peer.
        scale_up_topology: ``switch`` (any pair at full rate), ``mesh`` (a link per pair) or ``torus``.
        collectives: What collectives reach inside the domain.
        has_in_network_reduction: Whether switches of the domain add up (NVLink SHARP).
        gpus_per_node: GPUs of one host.
        network_bytes_per_s: One-way scale-out bandwidth per GPU of the usual server.
        tdp_watts: Power limit.
        matrix_speed: Speed of matrix and attention kernels over the one in ``gemm`` and ``attention``, where
            a power limit below that of the measured GPU slows their clock.
        gemm: GEMM efficiency by number format; the format's entry or that of ``bf16``.
        attention: Attention efficiency by kernel (``unfused`` is priced from GEMMs and memory instead).
        elementwise_fraction: Share of the HBM bandwidth that large memory-bound kernels reach.
        elementwise_ramp_s: Fixed device time of one memory-bound kernel.
        training_clock: Share of isolated GEMM speed that training sustains, by number format; 1 where
            absent. GEMMs draw the most power, and share it with all else that a step runs.
        speed_spread: Standard deviation of sustained compute speed among GPUs of this type, relative.
        power: What products gain while the rest of a layer draws less than the power limit; None where
            nothing was measured.
        matrix_unit: Side of the systolic arrays (MXU) of a TPU; 0 where products are cut into tiles.
        host_bytes_per_s: One-way bandwidth between its memory and the host's: PCIe, or a chip-to-chip link.
        host_memory_bytes_per_s: Its share of the bandwidth of the host's memory.
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
    elementwise_ramp_s: float
    scale_up_topology: Literal["switch", "mesh", "torus"] = "switch"
    partner_bytes_per_s: float = 0.0
    collectives: CollectiveEfficiency = CollectiveEfficiency()
    speed_spread: float = 0.0
    training_clock: Mapping[str, float] = field(default_factory=dict)
    matrix_speed: float = 1.0
    power: PowerRelief | None = None
    matrix_unit: int = 0
    host_bytes_per_s: float = 55e9
    host_memory_bytes_per_s: float = 77e9
    sources: Sources = field(default_factory=dict, compare=False, repr=False)

    def __hash__(self) -> int:
        """Hash by content, once for each object."""
        return content_hash(self)

    def sustained_flop_per_s(self, number_format: str) -> float:
        """Return what large matrix products sustain in a number format: its peak, less what power leaves.

        Raises:
            KeyError: The accelerator lacks the format.
        """
        reached = next(self.gemm[name] for name in (number_format, "bf16", "fp16") if name in self.gemm)
        return self.peak_flop_per_s[number_format] * reached.sustained_fraction
