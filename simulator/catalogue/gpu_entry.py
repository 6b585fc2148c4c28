"""Schema of an accelerator."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from simulator.catalogue.collectives import collective_fractions
from simulator.catalogue.entry import Entry, assumed
from simulator.catalogue.kernels import kernels
from simulator.catalogue.lookup import find
from simulator.catalogue.training import training_clocks
from simulator.documents import (
    BytesPerSecond,
    Count,
    Fraction,
    GpuCount,
    Name,
    PositiveBytes,
    PositiveBytesPerSecond,
    PositiveCount,
    PositiveFlopPerSecond,
    Seconds,
    Sourced,
    Strict,
    Watts,
)
from simulator.errors import CatalogueError
from simulator.scenario import CollectiveEfficiency, Gpu, PowerRelief, Provenance
from simulator.scenario.training import NumberFormat  # noqa: TC001  pydantic reads it

Share = Annotated[float, Field(ge=0, lt=0.2, allow_inf_nan=False)]


class MemoryEntry(Strict):
    """The device's HBM."""

    capacity: Sourced[PositiveBytes]
    """What a process can allocate of it."""
    bandwidth: Sourced[PositiveBytesPerSecond]
    """Its bandwidth."""


class PowerEntry(Strict):
    """What matrix products gain where a power-limited GPU rests between them."""

    headroom: Sourced[Fraction]
    """Gain of products that run alone and briefly over sustained ones."""
    idle: Sourced[Fraction]
    """Gain per share of time that the GPU waits."""
    memory: Sourced[Fraction]
    """Gain per share of time that memory-bound kernels run."""


class ScaleUpEntry(Strict):
    """The fast domain around a GPU: NVLink, xGMI, ICI."""

    bandwidth: Sourced[PositiveBytesPerSecond]
    """One-way bandwidth of one GPU into the domain."""
    domain: Sourced[GpuCount]
    """GPUs that reach each other at that bandwidth."""
    latency: Sourced[Seconds] = assumed(1e-6, "about one NVLink hop")
    """Latency of one hop."""
    partner_bandwidth: Sourced[BytesPerSecond] = assumed(0.0, "no die of the same card with links of its own")
    """One-way bandwidth to the other die of the same card; 0: as to any peer."""
    topology: Sourced[Literal["switch", "mesh", "torus"]] = assumed("switch", "any pair at full rate")
    """How the GPUs of the domain are joined."""
    in_network_reduction: Sourced[bool] = assumed(False, "unless stated")
    """Whether the switches add up (NVLink SHARP)."""


class CollectivesEntry(Strict):
    """What large messages reach of the scale-up bandwidth."""

    ring_fraction: Sourced[Fraction]
    """Ring collectives."""
    reduction_fraction: Sourced[Fraction]
    """All-reduce in the switches."""
    exchange_fraction: Sourced[Fraction]
    """All-to-all and point-to-point messages."""


class HostEntry(Strict):
    """The way to the host's memory."""

    bandwidth: Sourced[PositiveBytesPerSecond] = assumed(55e9, "PCIe 5 x16, as measured on an H100")
    """One-way bandwidth between the GPU's memory and the host's."""
    memory_bandwidth: Sourced[PositiveBytesPerSecond] = assumed(77e9, "two sockets of DDR5 for eight GPUs")
    """Its share of the bandwidth of the host's memory."""


class GpuEntry(Entry):
    """An accelerator: inline in a scenario, peak, memory, scale_up and network_bandwidth are enough."""

    entry_kind: ClassVar[str] = "gpu"

    peak: dict[NumberFormat, Sourced[PositiveFlopPerSecond]]
    """Dense peak by number format."""
    memory: MemoryEntry
    """The device's HBM."""
    scale_up: ScaleUpEntry
    """The fast domain around it."""
    network_bandwidth: Sourced[PositiveBytesPerSecond]
    """One-way scale-out bandwidth per GPU of the usual server."""
    multiprocessors: Sourced[PositiveCount] = assumed(132, "as an H100")
    """Streaming multiprocessors, compute units, or tensor cores of a TPU."""
    matrix_unit: Sourced[Count] = assumed(0, "no systolic array")
    """Side of the systolic arrays (MXU) of a TPU; 0 where products are cut into tiles."""
    gpus_per_node: Sourced[PositiveCount] = assumed(8, "the usual server")
    """GPUs of one host."""
    tdp: Sourced[Watts] = assumed(700.0, "as an H100")
    """Power limit."""
    matrix_speed: Sourced[Fraction] = assumed(1.0, "the power limit of the GPU that was measured")
    """Speed of matrix and attention kernels over the measured one, where a lower power limit slows them."""
    speed_spread: Sourced[Share] = assumed(0.0176, "as an H100")
    """Standard deviation of sustained compute speed among GPUs of this type, relative to the mean."""
    power: PowerEntry | None = None
    """What products gain while the rest draws less than the power limit; nothing where not measured."""
    host: HostEntry = HostEntry()
    """The way to the host's memory."""
    collectives: CollectivesEntry | None = None
    """What collectives reach inside the scale-up domain; fitted values unless stated."""
    kernels_like: Name | None = None
    """GPU whose measured kernels stand in for what was not measured on this one; the H100 unless stated."""

    @field_validator("peak")
    @classmethod
    def _has_16_bit(cls, peak: dict[str, Any]) -> dict[str, Any]:
        if not {"bf16", "fp16"} & peak.keys():
            raise ValueError("needs the peak of bf16 or fp16")
        return peak

    @field_validator("kernels_like", "like")
    @classmethod
    def _known(cls, like: str | None) -> str | None:
        try:
            return like and find("gpu", like)
        except CatalogueError as error:
            raise ValueError(str(error)) from None

    def to_scenario(self, name: str) -> Gpu:
        """Return the accelerator as scenario data, with the provenance of every number."""
        name = self.name or name
        like = self.kernels_like or self.like
        measured = kernels(name, like)
        collectives = dict(self.collectives) if self.collectives else collective_fractions(name, like)
        clocks = training_clocks(name, like)
        return Gpu(
            name=name,
            peak_flop_per_s={str(fmt): number.value for fmt, number in self.peak.items()},
            memory_bytes=self.memory.capacity.value,
            memory_bytes_per_s=self.memory.bandwidth.value,
            multiprocessors=self.multiprocessors.value,
            matrix_unit=self.matrix_unit.value,
            scale_up_bytes_per_s=self.scale_up.bandwidth.value,
            scale_up_domain=self.scale_up.domain.value,
            scale_up_latency_s=self.scale_up.latency.value,
            partner_bytes_per_s=self.scale_up.partner_bandwidth.value,
            scale_up_topology=self.scale_up.topology.value,
            has_in_network_reduction=self.scale_up.in_network_reduction.value,
            gpus_per_node=self.gpus_per_node.value,
            network_bytes_per_s=self.network_bandwidth.value,
            tdp_watts=self.tdp.value,
            matrix_speed=float(self.matrix_speed.value),
            speed_spread=float(self.speed_spread.value),
            power=None if self.power is None else self._power(self.power),
            training_clock={fmt: number.value for fmt, number in clocks.items()},
            host_bytes_per_s=self.host.bandwidth.value,
            host_memory_bytes_per_s=self.host.memory_bandwidth.value,
            collectives=CollectiveEfficiency(**{key: number.value for key, number in collectives.items()}),
            gemm=measured.gemm,
            attention=measured.attention,
            elementwise_fraction=measured.elementwise_fraction,
            elementwise_ramp_s=measured.elementwise_ramp_s,
            sources=self._sources(collectives)
            | {f"training_clock.{fmt}": self.provenance(number) for fmt, number in clocks.items()}
            | dict(measured.sources),
        )

    @staticmethod
    def _power(entry: PowerEntry) -> PowerRelief:
        return PowerRelief(
            headroom=float(entry.headroom.value),
            idle=float(entry.idle.value),
            memory=float(entry.memory.value),
        )

    def _sources(self, collectives: dict[str, Sourced[float]]) -> dict[str, Provenance]:
        numbers: dict[str, Sourced[Any]] = {
            **{f"peak_flop_per_s.{fmt}": number for fmt, number in self.peak.items()},
            "memory_bytes": self.memory.capacity,
            "speed_spread": self.speed_spread,
            "memory_bytes_per_s": self.memory.bandwidth,
            "multiprocessors": self.multiprocessors,
            "matrix_unit": self.matrix_unit,
            "scale_up_bytes_per_s": self.scale_up.bandwidth,
            "scale_up_domain": self.scale_up.domain,
            "scale_up_latency_s": self.scale_up.latency,
            "partner_bytes_per_s": self.scale_up.partner_bandwidth,
            "scale_up_topology": self.scale_up.topology,
            "has_in_network_reduction": self.scale_up.in_network_reduction,
            "gpus_per_node": self.gpus_per_node,
            "network_bytes_per_s": self.network_bandwidth,
            "tdp_watts": self.tdp,
            "matrix_speed": self.matrix_speed,
            **(
                {}
                if self.power is None
                else {
                    "power.headroom": self.power.headroom,
                    "power.idle": self.power.idle,
                    "power.memory": self.power.memory,
                }
            ),
            "host_bytes_per_s": self.host.bandwidth,
            "host_memory_bytes_per_s": self.host.memory_bandwidth,
            **{f"collectives.{key}": number for key, number in collectives.items()},
        }
        return {path: self.provenance(number) for path, number in numbers.items()}
