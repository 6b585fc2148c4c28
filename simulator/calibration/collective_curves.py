"""Measured collectives beside what the cost model says of them."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from simulator.catalogue import gpu as catalogue_gpu
from simulator.costs.algorithms.exchange import message
from simulator.costs.collectives import candidates
from simulator.costs.links import scale_up_links
from simulator.costs.nccl_constants import Corrections, fitted_corrections
from simulator.costs.topology import Placement, place
from simulator.scenario import CollectiveEfficiency, Gpu, Network, Tier
from simulator.workload.work import Group

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from simulator.costs.message import MessageCost

SMALLEST_BYTES = 65536
"""Smaller messages are the host's business; they are left out."""

KEPT = files("simulator.catalogue").joinpath("fitted/collectives.yaml")
"""The fit that is in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """A network on which something was measured.

    Attributes:
        bytes_per_s_per_gpu: One GPU's share of the NICs.
        domain: GPUs of one scale-up domain there.
        efficiency: Share of the bandwidth that large messages reach.
        latency_s: Latency of the network beyond NCCL's tables.
    """

    bytes_per_s_per_gpu: float
    domain: int
    efficiency: float = 0.94
    latency_s: float = 5e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One measured curve.

    Attributes:
        name: What its source calls it.
        gpu: Catalogue name.
        fabric: Name of the network between domains; empty inside one domain.
        kind: Collective, or ``sendrecv``.
        ranks: Ranks of the group.
        ranks_per_domain: Ranks in one scale-up domain.
        algorithm: What the measurement forced; empty where NCCL chose.
        points: Bytes and seconds.
        check_only: Compared, but not fitted.
    """

    name: str
    gpu: str
    fabric: str
    kind: Any
    ranks: int
    ranks_per_domain: int
    algorithm: str
    points: tuple[tuple[float, float], ...]
    check_only: bool = False

    def placement(self, fabric: Fabric) -> Placement:
        """Return where its ranks lie."""
        network = Network(
            name=self.fabric,
            kind="fat-tree",
            bytes_per_s_per_gpu=fabric.bytes_per_s_per_gpu,
            efficiency=fabric.efficiency,
            tiers=(Tier(name="network", gpus=0, oversubscription=1.0, latency_s=fabric.latency_s),),
        )
        stride = fabric.domain // self.ranks_per_domain if self.fabric else 1
        domain = fabric.domain if self.fabric else self.ranks_per_domain
        group = Group(axis="dp", size=self.ranks, stride=stride)
        return place(group, network, domain=domain, gpus=self.ranks * stride)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """All curves with their fabrics and GPUs."""

    curves: tuple[Curve, ...]
    fabrics: Mapping[str, Fabric]
    gpus: Mapping[str, Gpu]


def measurements() -> Measurements:
    """Read ``measurements/collectives.yaml``."""
    text = files("simulator.calibration").joinpath("measurements/collectives.yaml").read_text("utf-8")
    data = YAML(typ="safe").load(text)
    curves = tuple(
        Curve(
            name=row["id"],
            gpu=row["gpu"],
            fabric=row["fabric"] or "",
            kind=row["kind"],
            ranks=row["ranks"],
            ranks_per_domain=row["ranks_per_domain"],
            algorithm=row.get("algorithm", ""),
            check_only=row.get("check_only", False),
            points=tuple((float(size), microseconds * 1e-6) for size, microseconds in row["points"]),
        )
        for row in data["curves"]
    )
    fabrics = {
        name: Fabric(bytes_per_s_per_gpu=float(row["bytes_per_s_per_gpu"]), domain=row["domain"])
        for name, row in data["fabrics"].items()
    }
    gpus = {
        name: replace(catalogue_gpu(name), collectives=CollectiveEfficiency(**row))
        for name, row in data["published"].items()
    }
    return Measurements(curves=curves, fabrics=fabrics, gpus=gpus)


def predict(curve: Curve, measured: Measurements, corrections: Corrections) -> Iterator[MessageCost]:
    """Yield the predicted cost of each point of a curve."""
    gpu = measured.gpus[curve.gpu]
    fabric = measured.fabrics.get(curve.fabric, Fabric(bytes_per_s_per_gpu=1.0, domain=gpu.scale_up_domain))
    placement = curve.placement(fabric)
    domain = fabric.domain if curve.fabric else gpu.scale_up_domain
    links = replace(scale_up_links(gpu, domain, curve.ranks_per_domain), corrections=corrections)
    for size, _ in curve.points:
        if curve.kind == "sendrecv":
            yield message(size, placement, links)
            continue
        costs = candidates(curve.kind, size, placement, links)
        allowed = [cost for cost in costs if cost.algorithm.split()[0].startswith(curve.algorithm)]
        yield min(allowed, key=lambda cost: cost.alone_s)


def log_errors(curve: Curve, measured: Measurements, corrections: Corrections | None = None) -> list[float]:
    """Return ln(predicted / measured) of each point of a curve, by default with the corrections in use."""
    costs = predict(curve, measured, corrections or fitted_corrections())
    return [math.log(cost.alone_s / seconds) for cost, (_, seconds) in zip(costs, curve.points, strict=True)]


def fitted(values: Mapping[str, Any] | None = None) -> Measurements:
    """Return the measurements with the GPUs and fabrics of a fit, by default of the one that was kept."""
    values = values or YAML(typ="safe").load(KEPT.read_text("utf-8"))
    measured = measurements()
    gpus = {
        name: replace(gpu, collectives=CollectiveEfficiency(**values["gpus"][name]))
        for name, gpu in measured.gpus.items()
    }
    fabrics = {name: replace(fabric, **values["fabrics"][name]) for name, fabric in measured.fabrics.items()}
    return replace(measured, gpus=gpus, fabrics=fabrics)


def table(measured: Measurements, corrections: Corrections | None = None) -> list[str]:
    """Return one line per GPU, fabric and collective: points, median, mean and worst absolute log error."""
    groups: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for curve in measured.curves:
        errors = log_errors(curve, measured, corrections)
        kept = [
            error for error, (size, _) in zip(errors, curve.points, strict=True) if size >= SMALLEST_BYTES
        ]
        groups[curve.gpu, curve.fabric or "one domain", curve.kind] += kept
        groups["all", "all", "all"] += kept
    lines = []
    for key, errors in sorted(groups.items()):
        sizes = [abs(error) for error in errors]
        if sizes:
            lines.append(
                f"{key[0]:16} {key[1]:18} {key[2]:14} {len(sizes):5} points: "
                f"median {statistics.median(sizes):.3f}, mean {statistics.mean(sizes):.3f}, "
                f"worst {max(sizes):.2f}, bias {statistics.mean(errors):+.3f}"
            )
    return lines
