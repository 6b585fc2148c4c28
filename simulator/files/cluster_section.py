"""The hardware part of a scenario file: one kind of accelerator, or pools of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from simulator.documents import Also, DollarsPerHour, GpuCount, Strict
from simulator.files.named import GpuChoice, NetworkChoice  # noqa: TC001  pydantic reads them

_OF_EACH_POOL = ("gpu", "scale_up_domain", "num_slices")


class PoolSection(Strict):
    """A part of a mixed cluster: nodes with accelerators of one kind, which run whole pipeline ranks."""

    gpu: GpuChoice
    """Accelerator: a catalogue name (`simulator list gpus`) or an inline entry."""
    gpus: Annotated[GpuCount, Also("num_gpus")]
    """Accelerators of the pool: tp x cp x dp times the pipeline ranks that it runs."""
    scale_up_domain: Annotated[GpuCount | None, Also("nvlink_domain")] = None
    """Accelerators that share one NVLink (xGMI, ICI) domain; default: as the gpu's usual server."""
    network: NetworkChoice | None = None
    """Scale-out network through the pool's NICs; default: that of the cluster, else the gpu's usual NIC."""
    price_per_gpu_hour: DollarsPerHour | None = None
    """Price of one accelerator of the pool for one hour; default: that of the cluster."""


class ClusterSection(Strict):
    """The hardware of the job."""

    gpu: GpuChoice
    """Accelerator: a catalogue name (`simulator list gpus`) or an inline entry; not beside pools."""
    gpus: Annotated[GpuCount, Also("num_gpus"), Also("world_size")]
    """Accelerators of the job: tp x pp x cp x dp; with pools, their sum."""
    gpus_per_node: GpuCount | None = None
    """Accelerators of one host; default: as the gpu's usual server."""
    scale_up_domain: Annotated[GpuCount | None, Also("nvlink_domain")] = None
    """Accelerators that share one NVLink (xGMI, ICI) domain; default: as the gpu's usual server."""
    num_slices: GpuCount | None = None
    """Slices of TPU pods that the job runs on, joined by the data-centre network; default: as few as hold
    the job."""
    network: NetworkChoice | None = None
    """Scale-out network: a catalogue name (`simulator list networks`) or an inline entry; default:
    the gpu's usual NIC on a non-blocking rail-optimised fabric, with a warning that it is assumed."""
    price_per_gpu_hour: DollarsPerHour | None = None
    """Price of one accelerator for one hour."""
    pools: list[PoolSection] = Field(default=[])
    """Instead of gpu: parts with different accelerators, in the order of the pipeline ranks."""

    @model_validator(mode="before")
    @classmethod
    def _of_pools(cls, data: object) -> object:
        """Take the number of GPUs, and the first of them, from the pools."""
        if not isinstance(data, dict) or not _are_pools(data.get("pools")):
            return data
        pools = data["pools"]
        beside = [key for key in _OF_EACH_POOL if data.get(key) is not None]
        if beside:
            raise ValueError(f"beside 'pools', each pool has its own {', '.join(map(repr, beside))}")
        total = sum(pool["gpus"] for pool in pools)
        if data.get("gpus", total) != total:
            raise ValueError(f"'gpus' is {data['gpus']}, but the pools hold {total}; leave 'gpus' out")
        return {**data, "gpu": pools[0]["gpu"], "gpus": total}


def _are_pools(pools: object) -> bool:
    """Tell whether pools are complete enough to be counted; what is wrong with others, the schema says."""
    return (
        isinstance(pools, list)
        and bool(pools)
        and all(
            isinstance(pool, Mapping) and type(pool.get("gpus")) is int and pool.get("gpu") is not None
            for pool in pools
        )
    )
