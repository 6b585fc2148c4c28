"""An accelerator: datasheet numbers and what measured kernels reach of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le, Lt

from simulator.scenario.content import content_hash
from simulator.scenario.provenance import Sources
from simulator.scenario.stated import (
    FITTED,
    MAX_GPUS,
    MEASURED,
    Assumed,
    Count,
    Fraction,
    Key,
    Positive,
    Size,
)


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
    """

    ring_fraction: Fraction = 0.794
    """Ring collectives: bytes that a rank sends to its neighbour."""
    reduction_fraction: Fraction = 0.702
    """All-reduce in the switches (NVLink SHARP): bytes that a rank sends to them."""
    exchange_fraction: Fraction = 0.728
    """All-to-all and point-to-point messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerRelief:
    """What resting between matrix products yields on a power-limited GPU; see ``costs.power``."""

    headroom: Fraction
    """Gain of products that run alone and briefly over sustained ones."""
    idle: Fraction
    """Gain per share of time that the GPU waits."""
    memory: Fraction
    """Gain per share of time that memory-bound kernels run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """An accelerator as one rank sees it."""

    name: str
    """Catalogue name."""
    peak_flop_per_s: Annotated[Mapping[str, Positive], Key("peak")]
    """Dense peak by format: ``fp32``, ``tf32``, ``bf16``, ``fp16``, ``fp8``, ``fp4``."""
    memory_bytes: Annotated[Positive, Key("memory.capacity")]
    """HBM capacity: what a process can allocate of it."""
    memory_bytes_per_s: Annotated[Positive, Key("memory.bandwidth")]
    """HBM bandwidth."""
    multiprocessors: Annotated[Size, Assumed("as an H100")] = 132
    """Streaming multiprocessors (compute units, tensor cores of a TPU)."""
    scale_up_bytes_per_s: Annotated[Positive, Key("scale_up.bandwidth")]
    """One-way bandwidth of one GPU into its scale-up domain (NVLink, xGMI, ICI)."""
    scale_up_domain: Annotated[int, Ge(1), Le(MAX_GPUS), Key("scale_up.domain")]
    """GPUs that reach each other at that bandwidth."""
    scale_up_latency_s: Annotated[float, Key("scale_up.latency"), Assumed("about one NVLink hop")] = 1e-6
    """Latency of one hop inside the domain."""
    has_in_network_reduction: Annotated[
        bool, Key("scale_up.in_network_reduction"), Assumed("unless stated")
    ] = False
    """Whether switches of the domain add up (NVLink SHARP)."""
    gpus_per_node: Annotated[Size, Assumed("the usual server")] = 8
    """GPUs of one host."""
    network_bytes_per_s: Annotated[Positive, Key("network_bandwidth")]
    """One-way scale-out bandwidth per GPU of the usual server."""
    tdp_watts: Annotated[float, Key("tdp"), Assumed("as an H100")] = 700.0
    """Power limit."""
    gemm: Annotated[Mapping[str, GemmEfficiency], MEASURED]
    """GEMM efficiency by number format; the format's entry or that of ``bf16``."""
    attention: Annotated[Mapping[str, AttentionEfficiency], MEASURED]
    """Attention efficiency by kernel (``unfused`` is priced from GEMMs and memory instead)."""
    elementwise_fraction: Annotated[float, MEASURED]
    """Share of the HBM bandwidth that large memory-bound kernels reach."""
    elementwise_ramp_s: Annotated[float, MEASURED]
    """Fixed device time of one memory-bound kernel."""
    scale_up_topology: Annotated[
        Literal["switch", "mesh", "torus"], Key("scale_up.topology"), Assumed("any pair at full rate")
    ] = "switch"
    """``switch`` (any pair at full rate), ``mesh`` (a link per pair) or ``torus``."""
    partner_bytes_per_s: Annotated[
        float, Key("scale_up.partner_bandwidth"), Assumed("no die of the same card with links of its own")
    ] = 0.0
    """One-way bandwidth to the other die of the same card, over its own links (MI250X); 0: as to any peer."""
    collectives: Annotated[CollectiveEfficiency, FITTED] = CollectiveEfficiency()
    """What collectives reach inside the domain; fitted unless stated."""
    speed_spread: Annotated[float, Ge(0), Lt(0.2), Assumed("as an H100")] = 0.0176
    """Standard deviation of sustained compute speed among GPUs of this type, relative to the mean."""
    training_clock: Annotated[Mapping[str, float], MEASURED] = field(default_factory=dict)
    """Share of isolated GEMM speed that training sustains, by number format; 1 where absent. GEMMs draw the
    most power, and share it with all else that a step runs."""
    matrix_speed: Annotated[Fraction, Assumed("the power limit of the GPU that was measured")] = 1.0
    """Speed of matrix and attention kernels over the one in ``gemm`` and ``attention``, where a power limit
    below that of the measured GPU slows their clock."""
    power: PowerRelief | None = None
    """What products gain while the rest of a layer draws less than the power limit; None where nothing was
    measured."""
    matrix_unit: Annotated[Count, Assumed("no systolic array")] = 0
    """Side of the systolic arrays (MXU) of a TPU; 0 where products are cut into tiles."""
    host_bytes_per_s: Annotated[
        Positive, Key("host.bandwidth"), Assumed("PCIe 5 x16, as measured on an H100")
    ] = 55e9
    """One-way bandwidth between its memory and the host's: PCIe, or a chip-to-chip link."""
    host_memory_bytes_per_s: Annotated[
        Positive, Key("host.memory_bandwidth"), Assumed("two sockets of DDR5 for eight GPUs")
    ] = 77e9
    """Its share of the bandwidth of the host's memory."""
    sources: Sources = field(default_factory=dict, compare=False, repr=False)
    """Provenance of every field, by field path."""

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
