"""A row's hardware as the cluster of a scenario document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from simulator import catalogue
from simulator.errors import CatalogueError
from simulator.validation.nearest import nearest_gpu

if TYPE_CHECKING:
    from simulator.scenario import Gpu, Network
    from simulator.validation.assumptions import Assumptions
    from simulator.validation.rows import Row

_FABRICS: tuple[tuple[str, str], ...] = (
    (r"\broce\b.*pods? of .*oversubscription", "meta-24k-roce"),
    (r"selene", "selene"),
    (r"\beos\b", "eos"),
    (r"omni.?path", "jean-zay"),
    (r"\bici\b|torus", "{gpu}-pod"),
    (r"\broce\b|ethernet", "roce-{rate}g"),
    (r"rail|dgx|\d+ ?x ?\d+ ?g", "rail-optimised-{rate}g"),
)
"""What a fabric is called, and the catalogue's network of that shape; the first match counts."""

_UNKNOWN_FABRIC = "fat-tree-{rate}g"
_RATES = (50, 100, 200, 400, 800)
_SAME_RATE = 0.01


def row_gpu(row: Row, assumptions: Assumptions) -> Gpu:
    """Return the catalogue's accelerator for a row, or the nearest one with a warning."""
    try:
        return catalogue.gpu(row.gpu)
    except CatalogueError:
        name = nearest_gpu(row.gpu, catalogue.names("gpu"))
        assumptions.note(f"GPU {row.gpu!r} is not in the catalogue: {name!r}, the nearest, is simulated")
        return catalogue.gpu(name)


def cluster_document(row: Row, assumptions: Assumptions) -> dict[str, object]:
    """Describe a row's hardware; what it does not say is the accelerator's usual server.

    Args:
        row: The row.
        assumptions: Takes what had to be assumed.
    """
    gpu = row_gpu(row, assumptions)
    document: dict[str, object] = {"gpu": gpu.name, "gpus": row.gpus}
    if row.gpus_per_node is not None:
        document["gpus_per_node"] = row.gpus_per_node
    if row.nvlink_domain is not None:
        document["scale_up_domain"] = row.nvlink_domain
    if row.num_slices is not None and row.num_slices > 1:
        document["num_slices"] = row.num_slices
    network = _network(row, gpu, assumptions)
    if network is not None:
        document["network"] = network
    return document


def _network(row: Row, gpu: Gpu, assumptions: Assumptions) -> str | dict[str, object] | None:
    """Return the fabric: a catalogue name, that network at the row's rate, or None for the usual NIC."""
    text = (row.network or "").lower()
    if "single node" in text or (not text and row.network_gbps_per_gpu is None):
        return None
    rate = (row.network_gbps_per_gpu or gpu.network_bytes_per_s * 8e-9) * 1e9 / 8
    fabric = next((shape for pattern, shape in _FABRICS if re.search(pattern, text)), _UNKNOWN_FABRIC)
    nearest = min(_RATES, key=lambda known: abs(known * 1e9 / 8 - rate))
    name = fabric.format(rate=nearest, gpu=gpu.name)
    try:
        known = catalogue.network(name)
    except CatalogueError:
        assumptions.note(f"network {row.network!r} is not in the catalogue: the GPU's usual one is simulated")
        return None
    if fabric == _UNKNOWN_FABRIC:
        assumptions.note(f"shape of network {row.network!r} not stated: {name!r} is simulated")
    if (
        row.network_gbps_per_gpu is None
        or abs(known.bytes_per_s_per_gpu / rate - 1) < _SAME_RATE
        or known.torus
    ):
        return name
    return _at_rate(known, row.network_gbps_per_gpu)


def _at_rate(known: Network, gbps: float) -> dict[str, object]:
    return {
        "name": f"{known.name} at {gbps:g} Gb/s",
        "kind": known.kind,
        "bandwidth_per_gpu": f"{gbps} Gb/s",
        "efficiency": known.efficiency,
        "tiers": [
            {
                "name": tier.name,
                "gpus": tier.gpus,
                "oversubscription": tier.oversubscription,
                "latency": f"{tier.latency_s} s",
            }
            for tier in known.tiers
        ],
    }
