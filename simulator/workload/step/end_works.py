"""What ranks do once per step: gradients are agreed on and summed up over stages, weights updated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.scenario.remembered import remembered
from simulator.workload.grid import stride
from simulator.workload.layers.local_sizes import vocabulary_rows
from simulator.workload.layers.low_precision import quantisation
from simulator.workload.parameters.bytes import state_bytes, update_bytes, weight_cast_bytes
from simulator.workload.parameters.counts import (
    gradient_bytes,
    rank_parameters,
    reduced_bytes,
    stage_parameters,
    weight_bytes,
)
from simulator.workload.parameters.optimizer_offload import offload_buckets, offloaded_share
from simulator.workload.parameters.sharding import dense_sharing, expert_sharing
from simulator.workload.work import Collective, Elementwise, Group, HostCopy, HostUpdate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.workload.parameters.counts import RankParameters
    from simulator.workload.parameters.stage_outline import Outline

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


@remembered
def rank_end(scenario: Scenario, stages: tuple[Outline, ...]) -> RankEnd:
    """Return how a step ends on a rank with such stages."""
    held = rank_parameters(scenario, stages)
    parameters = _updated_parameters(scenario, held)
    size = parameters * (1.0 - offloaded_share(scenario)) * update_bytes(scenario)
    if scenario.parallelism.dp > 1:
        size += held.total * scenario.software.reduction_bytes_per_parameter
    cast = (held.total - held.boundary) * weight_cast_bytes(scenario)
    return RankEnd(
        parameters=parameters,
        update=Elementwise(name="optimizer", bytes_moved=size, exact=True) if size else None,
        casts=Elementwise(name="weight casts", bytes_moved=cast, exact=True) if cast else None,
    )


def _updated_parameters(scenario: Scenario, held: RankParameters) -> float:
    """Return the parameters that the rank updates: all, or its shard."""
    if scenario.parallelism.sharding == "none":
        return held.dense + held.experts
    dense = held.dense / dense_sharing(scenario).shard.size
    return dense + held.experts / expert_sharing(scenario).shard.size


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


def offloaded_works(scenario: Scenario, parameters: float) -> OffloadedWorks:
    """Return what updating one bucket of a rank that updates so many parameters takes.

    The host reads and writes state once (ZeRO-Offload, arXiv:2101.06840; Megatron-Core's
    ``optimizer_cpu_offload``), or state is streamed through the GPU.
    """
    part = parameters * offloaded_share(scenario) / offload_buckets(scenario, parameters)
    state = part * state_bytes(scenario)
    if scenario.training.offload.optimizer == "cpu":
        gradients, weights = part * gradient_bytes(scenario), part * weight_bytes(scenario)
        traffic = 2 * part * state_bytes(scenario) + gradients + weights
        return OffloadedWorks(
            into=HostCopy(bytes=weights), update=HostUpdate(bytes=traffic), out=HostCopy(bytes=gradients)
        )
    update = Elementwise(name="optimizer", bytes_moved=part * update_bytes(scenario), exact=True)
    return OffloadedWorks(into=HostCopy(bytes=state), update=update, out=HostCopy(bytes=state))


@remembered
def norm_work(scenario: Scenario) -> Collective | None:
    """Return the sum over all ranks that the gradient norm takes, if any."""
    everyone = Group(axis="dp", size=scenario.parallelism.gpus, stride=1)
    if everyone.size == 1 or scenario.training.post_validation:
        return None
    return Collective(kind="all_reduce", group=everyone, bytes=4.0, name="gradient norm")


def amax_works(scenario: Scenario, layers: int) -> tuple[Collective, Collective] | None:
    """Let delayed scaling agree on the largest value of each tensor over all ranks with the same layers.

    Transformer Engine does so once for the forward and once for the backward tensors: input and weight of
    each product, and its output gradient. None without delayed scaling, or where a rank is alone.
    """
    quantised = quantisation(scenario)
    everyone = Group(axis="dp", size=scenario.parallelism.gpus // scenario.parallelism.pp, stride=1)
    if quantised is None or not quantised.recipe.history or everyone.size == 1:
        return None
    forward, backward = (
        Collective(
            kind="all_reduce",
            group=everyone,
            bytes=4.0 * tensors * _PRODUCTS_PER_LAYER * layers,
            name="amax history",
        )
        for tensors in (2, 1)
    )
    return forward, backward


@remembered
def tied_work(scenario: Scenario, first_rank: int, last_rank: int) -> Collective:
    """Return the sum of a tied table's gradients over the ranks of the first and of the last stage."""
    pair = _pair(scenario, first_rank, last_rank)
    rows = vocabulary_rows(scenario.model.vocab_size, scenario.parallelism.tp)
    size = rows * scenario.model.hidden_size * reduced_bytes(scenario)
    return Collective(kind="all_reduce", group=pair, bytes=size, name="tied embedding gradients")


def stage_copy_work(scenario: Scenario, stage: Outline, ranks: Sequence[int]) -> Collective:
    """Return the sum of a stage's gradients over the two ranks that hold it (DualPipe), each its shard."""
    dense, experts = dense_sharing(scenario), expert_sharing(scenario)
    is_sharded = scenario.parallelism.sharding != "none"
    part = stage_parameters(scenario, stage)
    size = part.dense / (dense.shard.size if is_sharded else 1)
    size += part.experts / (experts.shard.size if is_sharded else 1)
    return Collective(
        kind="all_reduce",
        group=_pair(scenario, *ranks),
        bytes=size * reduced_bytes(scenario),
        name="stage copies",
    )


def _pair(scenario: Scenario, one: int, other: int) -> Group:
    return Group(axis="pp", size=2, stride=abs(other - one) * stride(scenario.parallelism, "pp"))
