"""Schema of an accelerator."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import field_validator

from simulator.catalogue.collectives import collective_fractions
from simulator.catalogue.derive import assembled, derived, numbers_of
from simulator.catalogue.entry import Entry
from simulator.catalogue.kernels import kernels
from simulator.catalogue.lookup import find
from simulator.catalogue.training import training_clocks
from simulator.documents import Name, PositiveFlopPerSecond, Sourced
from simulator.errors import CatalogueError
from simulator.scenario import Gpu
from simulator.scenario.training import NumberFormat

_SECTIONS = {
    "memory": "The device's HBM.",
    "scale_up": "The fast domain around a GPU: NVLink, xGMI, ICI.",
    "host": "The way to the host's memory.",
}


@derived(Gpu, sections=_SECTIONS)
class GpuEntry(Entry):
    """An accelerator: inline in a scenario, peak, memory, scale_up and network_bandwidth are enough."""

    entry_kind: ClassVar[str] = "gpu"

    peak: dict[NumberFormat, Sourced[PositiveFlopPerSecond]]
    """Dense peak by number format."""
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
        measured, clocks = kernels(name, like), training_clocks(name, like)
        numbers = numbers_of(self, Gpu)
        if "collectives.ring_fraction" not in numbers:
            fractions = collective_fractions(name, like)
            numbers |= {f"collectives.{key}": number for key, number in fractions.items()}
        named_clocks = {f"training_clock.{key}": number for key, number in clocks.items()}
        return assembled(
            Gpu,
            numbers,
            name=name,
            training_clock={key: number.value for key, number in clocks.items()},
            gemm=measured.gemm,
            attention=measured.attention,
            elementwise_fraction=measured.elementwise_fraction,
            elementwise_ramp_s=measured.elementwise_ramp_s,
            sources=self.sources_of(numbers | named_clocks) | dict(measured.sources),
        )
