"""What ranks do once per step: gradients are agreed on and summed up over stages, weights updated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.workload.parameters.counts import rank_parameters, stage_parameters
from simulator.workload.parameters.optimizer_offload import OffloadTraffic, offload_buckets
from simulator.workload.work import Collective, Elementwise, Group, HostCopy, HostUpdate

if TYPE_CHECKING:
    from simulator.workload.parameters.bytes import ParameterBytes
    from simulator.workload.parameters.model_states import ModelStates
    from simulator.workload.parameters.sharding import X
    from simulator.workload.parameters.stage_outline import StageOutline

_PRODUCTS_PER_LAYER = 4
"""Query-key-value, output, up and down products."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankEnd:
    """What a rank's own stages decide of the end of its step.

    Attributes:
        parameters: Parameters that it updates: all, or its shard.
        update: The update of those whose optimizer state is on the GPU, and passes over whole gradients.
        casts: Making low-precision copies of the weights.
    """

    parameters: float
    update: Elementwise | None
    casts: Elementwise | None


@lru_cache(maxsize=16384)
def rank_end(states: ModelStates, stages: tuple[StageOutline, ...]) -> RankEnd:
    """Return how a step ends on a rank with such stages."""
    held = rank_parameters(states.local, stages)
    parameters = states.sharding.updated(held.dense, held.experts)
    on_gpu = parameters * (1.0 - states.offload.share)
    size = update_traffic(on_gpu, held.total, states.sizes, states.reduction_bytes)
    cast = (held.total - held.boundary) * states.sizes.cast
    return RankEnd(
        parameters=parameters,
        update=Elementwise(name="optimizer", bytes_moved=size, exact=True) if size else None,
        casts=Elementwise(name="weight casts", bytes_moved=cast, exact=True) if cast else None,
    )


def update_traffic(on_gpu: X, total: X, sizes: ParameterBytes, reduction_bytes: X | float) -> X:
    """Return the bytes in HBM that updating a rank's weights moves, passes over whole gradients included.

    Args:
        on_gpu: Parameters that the GPU updates.
        total: Parameters that the rank holds.
        sizes: Bytes of one parameter.
        reduction_bytes: Traffic around the reduction of gradients per parameter.
    """
    return on_gpu * sizes.update + total * reduction_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadedWorks:
    """One bucket of an optimizer step through host memory.

    Attributes:
        into: Copy to the GPU: updated weights, or state to be updated.
        update: The update, by the host or by the GPU.
        out: Copy to the host: gradients, or updated state.
    """

    into: HostCopy
    update: HostUpdate | Elementwise
    out: HostCopy


def offloaded_works(states: ModelStates, parameters: float) -> OffloadedWorks:
    """Return what updating one bucket of a rank that updates so many parameters takes."""
    offload, sizes = states.offload, states.sizes
    bucket = parameters * offload.share / rank_buckets(states, parameters)
    traffic = OffloadTraffic.of(bucket, sizes, offload)
    fetched, returned = HostCopy(bytes=traffic.fetched), HostCopy(bytes=traffic.returned)
    if offload.method == "cpu":
        return OffloadedWorks(into=returned, update=HostUpdate(bytes=traffic.updated), out=fetched)
    update = Elementwise(name="optimizer", bytes_moved=traffic.updated, exact=True)
    return OffloadedWorks(into=fetched, update=update, out=returned)


def rank_buckets(states: ModelStates, parameters: float) -> int:
    """Return in how many buckets the state of a rank's parameters passes between GPU and host."""
    return int(offload_buckets(parameters, states.sizes.gradient, states.offload))


@lru_cache(maxsize=1024)
def norm_work(gpus: int, *, post_validation: bool) -> Collective | None:
    """Return the sum over all ranks that the gradient norm takes, if any."""
    if gpus == 1 or post_validation:
        return None
    everyone = Group(axis="dp", size=gpus, stride=1)
    return Collective(kind="all_reduce", group=everyone, bytes=4.0, name="gradient norm")


def amax_works(ranks: int, layers: int) -> tuple[Collective, Collective]:
    """Let delayed scaling agree on the largest value of each tensor over all ranks with the same layers.

    Transformer Engine does so once for the forward and once for the backward tensors: input and weight of
    each product, and its output gradient.
    """
    group = Group(axis="dp", size=ranks, stride=1)
    forward, backward = (
        Collective(
            kind="all_reduce",
            group=group,
            bytes=4.0 * tensors * _PRODUCTS_PER_LAYER * layers,
            name="amax history",
        )
        for tensors in (2, 1)
    )
    return forward, backward


def tied_work(table: int, reduced_bytes: float, pair: Group) -> Collective:
    """Return the sum of a tied table's gradients over the ranks of the first and of the last stage.

    Args:
        table: Parameters of the token table on one rank.
        reduced_bytes: Bytes of one gradient as it travels.
        pair: The two ranks.
    """
    size = table * reduced_bytes
    return Collective(kind="all_reduce", group=pair, bytes=size, name="tied embedding gradients")


def stage_copy_work(states: ModelStates, stage: StageOutline, pair: Group) -> Collective:
    """Return the sum of a stage's gradients over the two ranks that hold it (DualPipe), each its shard."""
    held = stage_parameters(states.local, stage)
    size = states.sharding.updated(held.dense, held.experts) * states.sizes.reduced
    return Collective(kind="all_reduce", group=pair, bytes=size, name="stage copies")


def rank_pair(apart: int, first: int, second: int) -> Group:
    """Return the group of two pipeline ranks, neighbours being ``apart`` global ranks apart."""
    return Group(axis="pp", size=2, stride=abs(second - first) * apart)
