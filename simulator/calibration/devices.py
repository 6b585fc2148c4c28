"""Datasheet numbers of the measured GPUs, before anything is fitted."""

from __future__ import annotations

from functools import lru_cache

from simulator.catalogue import GpuEntry
from simulator.catalogue.lookup import document
from simulator.documents import validate
from simulator.scenario import Gpu


@lru_cache(maxsize=64)
def datasheet(name: str) -> Gpu:
    """Return a GPU of the catalogue without efficiencies: the fits give it theirs.

    Raises:
        CatalogueError: No such GPU.
    """
    entry = validate(document("gpu", name), GpuEntry)
    return Gpu(
        name=name,
        peak_flop_per_s={str(dtype): peak.value for dtype, peak in entry.peak.items()},
        memory_bytes=entry.memory.capacity.value,
        memory_bytes_per_s=entry.memory.bandwidth.value,
        multiprocessors=entry.multiprocessors.value,
        scale_up_bytes_per_s=entry.scale_up.bandwidth.value,
        scale_up_domain=entry.scale_up.domain.value,
        scale_up_latency_s=entry.scale_up.latency.value,
        has_in_network_reduction=entry.scale_up.in_network_reduction.value,
        gpus_per_node=entry.gpus_per_node.value,
        network_bytes_per_s=entry.network_bandwidth.value,
        tdp_watts=entry.tdp.value,
        gemm={},
        attention={},
        elementwise_fraction=1.0,
        elementwise_ramp_s=0.0,
    )
