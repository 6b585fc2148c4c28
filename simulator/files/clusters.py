"""The hardware and the software that a scenario file names or describes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator import catalogue
from simulator.catalogue import NetworkEntry
from simulator.documents import Sourced
from simulator.errors import CatalogueError
from simulator.scenario import Cluster, Gpu, Network, Pool, Software

if TYPE_CHECKING:
    from simulator.files.cluster_section import ClusterSection, PoolSection
    from simulator.files.named import GpuChoice, NetworkChoice, SoftwareChoice


def gpu_of(choice: GpuChoice) -> Gpu:
    """Return the accelerator that a file names or describes."""
    return catalogue.gpu(choice) if isinstance(choice, str) else choice.to_scenario("gpu")


def software_of(choice: SoftwareChoice) -> Software:
    """Return the stack that a file names or describes."""
    return catalogue.software(choice) if isinstance(choice, str) else choice.to_scenario("software")


def cluster_of(section: ClusterSection) -> Cluster:
    """Return the hardware of a job."""
    gpu = gpu_of(section.gpu)
    pools = tuple(_pool(pool, section) for pool in section.pools)
    domain = section.scale_up_domain or gpu.scale_up_domain
    if section.num_slices:
        domain = section.gpus // section.num_slices
    return Cluster(
        gpu=gpu,
        gpus=section.gpus,
        gpus_per_node=section.gpus_per_node or gpu.gpus_per_node,
        scale_up_domain=domain,
        network=pools[0].network if pools else network_of(section.network, gpu),
        price_per_gpu_hour=_price(section),
        pools=pools,
    )


def _pool(pool: PoolSection, section: ClusterSection) -> Pool:
    gpu = gpu_of(pool.gpu)
    return Pool(
        gpu=gpu,
        gpus=pool.gpus,
        gpus_per_node=section.gpus_per_node or gpu.gpus_per_node,
        scale_up_domain=pool.scale_up_domain or gpu.scale_up_domain,
        network=network_of(pool.network or section.network, gpu),
    )


def _price(section: ClusterSection) -> float | None:
    """Return the price of the mean accelerator; None where one has no price."""
    if not section.pools:
        return section.price_per_gpu_hour
    prices = [pool.price_per_gpu_hour or section.price_per_gpu_hour for pool in section.pools]
    if any(price is None for price in prices):
        return None
    paid = zip(section.pools, prices, strict=True)
    return sum(pool.gpus * price for pool, price in paid if price is not None) / section.gpus


def network_of(choice: NetworkChoice | None, gpu: Gpu) -> Network:
    """Return the network that a file names or describes, or the usual one of an accelerator.

    That is the pod of a TPU; for others, the usual NIC on a non-blocking rail-optimised fabric.
    """
    if isinstance(choice, str):
        return catalogue.network(choice)
    if choice is not None:
        return choice.to_scenario("network")
    pod = usual_pod(gpu)
    if pod is not None:
        return pod
    origin = f"the usual server of {gpu.name}"
    rate = Sourced(value=gpu.network_bytes_per_s, source=origin, kind="assumed")
    return NetworkEntry.model_construct(kind="rail-optimised", bandwidth_per_gpu=rate).to_scenario("assumed")


def usual_pod(gpu: Gpu) -> Network | None:
    """Return the catalogue's torus for a TPU, None for everything else."""
    if gpu.scale_up_topology != "torus":
        return None
    try:
        return catalogue.network(f"{gpu.name}-pod")
    except CatalogueError:
        return None
