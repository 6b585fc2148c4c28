"""Schema of a scale-out network."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from simulator.catalogue.derive import assumed
from simulator.catalogue.entry import Entry
from simulator.documents import (
    Also,
    Count,
    Fraction,
    Name,
    PositiveBytesPerSecond,
    PositiveCount,
    Seconds,
    Sourced,
    Strict,
)
from simulator.scenario import Network, Provenance, Tier

Oversubscription = Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False)]

_EFFICIENCY: Sourced[float] = assumed(0.94, "as NDR 400 Gb/s InfiniBand, github:NVIDIA/nccl-tests issue 290")
_LATENCY: Sourced[float] = assumed(1e-6, "one switch; InfiniBand and Ethernet switches take 0.5 to 2 us")
_NOTHING: Sourced[float] = assumed(1.0, "full bisection unless stated")


class TierEntry(Strict):
    """One level of the network."""

    name: Name
    """What operators call it: leaf, pod, spine, dcn."""
    gpus: Sourced[Count]
    """GPUs below one switch group of this tier; 0 means all of the cluster."""
    oversubscription: Sourced[Oversubscription] = _NOTHING
    """Bandwidth that GPUs offer to this tier over what it carries."""
    latency: Sourced[Seconds] = _LATENCY
    """Added one-way latency of crossing this tier."""


class NetworkEntry(Entry):
    """A scale-out network: inline in a scenario, ``bandwidth_per_gpu`` is enough."""

    entry_kind: ClassVar[str] = "network"

    kind: Annotated[Literal["fat-tree", "rail-optimised", "torus"], Also("type")] = "fat-tree"
    """Shape of the network."""
    bandwidth_per_gpu: Sourced[PositiveBytesPerSecond]
    """One-way bandwidth of a GPU's share of its NICs."""
    efficiency: Sourced[Fraction] = _EFFICIENCY
    """Share of that bandwidth that large messages reach."""
    tiers: list[TierEntry] = Field(default=[])
    """Levels from the nearest to the farthest; one that spans the cluster unless stated."""
    oversubscription: Sourced[Oversubscription] | None = None
    """Oversubscription of the one level, where no tiers are given."""
    latency: Sourced[Seconds] | None = None
    """Latency of the one level, where no tiers are given."""
    torus: Sourced[list[PositiveCount]] | None = None
    """Chips along each axis of a torus."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.tiers and (self.oversubscription or self.latency):
            raise ValueError("give 'oversubscription' and 'latency' for each of the tiers, not beside them")
        sizes = [tier.gpus.value for tier in self.tiers]
        if self.tiers and sizes[-1] != 0:
            raise ValueError("the last tier must span the cluster: 'gpus: 0'")
        if any(near >= far for near, far in pairwise(sizes[:-1])) or 0 in sizes[:-1]:
            raise ValueError("tiers must grow from the nearest to the farthest")
        if (self.torus is None) == (self.kind == "torus"):
            raise ValueError("'torus' (chips along each axis) belongs to 'kind: torus', and to no other kind")
        return self

    def to_scenario(self, name: str) -> Network:
        """Return the network as scenario data, with the provenance of every number."""
        tiers = self.tiers or [self._one_tier()]
        return Network(
            name=self.name or name,
            kind=self.kind,
            bytes_per_s_per_gpu=self.bandwidth_per_gpu.value,
            efficiency=self.efficiency.value,
            tiers=tuple(
                Tier(
                    name=tier.name,
                    gpus=tier.gpus.value,
                    oversubscription=float(tier.oversubscription.value),
                    latency_s=tier.latency.value,
                )
                for tier in tiers
            ),
            torus=tuple(self.torus.value) if self.torus else (),
            sources=self._sources(tiers),
        )

    def _one_tier(self) -> TierEntry:
        return TierEntry.model_construct(
            name="network",
            gpus=assumed(0, "one level spans the cluster"),
            oversubscription=self.oversubscription or _NOTHING,
            latency=self.latency or _LATENCY,
        )

    def _sources(self, tiers: list[TierEntry]) -> dict[str, Provenance]:
        numbers: dict[str, Sourced[Any]] = {
            "bytes_per_s_per_gpu": self.bandwidth_per_gpu,
            "efficiency": self.efficiency,
        }
        for i, tier in enumerate(tiers):
            numbers[f"tiers[{i}].gpus"] = tier.gpus
            numbers[f"tiers[{i}].oversubscription"] = tier.oversubscription
            numbers[f"tiers[{i}].latency_s"] = tier.latency
        if self.torus:
            numbers["torus"] = self.torus
        return self.sources_of(numbers)
