"""Gradient buckets: which layers reduce their gradients, and gather their weights, in one message."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.scenario.remembered import remembered
from simulator.workload.parameters.bytes import gathered_bytes
from simulator.workload.parameters.counts import (
    StageParameters,
    boundary_parameters,
    gradient_bytes,
    parameters_of_kind,
    prediction_parameters,
    reduced_bytes,
)
from simulator.workload.parameters.sharding import dense_sharing, expert_sharing
from simulator.workload.parameters.stage_outline import Outline
from simulator.workload.work import Collective, CollectiveKind, Group

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Consecutive works of a stage, from number ``first`` up to but without ``end``, and their parameters."""

    first: int
    end: int
    parameters: StageParameters


@remembered
def bucket_parts(scenario: Scenario, stage: Outline) -> tuple[Part, ...]:
    """Divide a stage into buckets of whole layers, each at least ``bucket_bytes`` of gradients."""
    limit = scenario.software.bucket_bytes
    parts: list[Part] = []
    first = 0
    dense = experts = 0.0
    units = unit_parts(scenario, stage)
    for unit in units:
        dense, experts = dense + unit.parameters.dense, experts + unit.parameters.experts
        if (dense + experts) * gradient_bytes(scenario) >= limit or unit.end == len(units):
            parameters = StageParameters(dense=dense, experts=experts)
            parts.append(Part(first=first, end=unit.end, parameters=parameters))
            first, dense, experts = unit.end, 0.0, 0.0
    return tuple(parts)


@remembered
def unit_parts(scenario: Scenario, stage: Outline) -> tuple[Part, ...]:
    """Return each work of a stage with its parameters."""
    return tuple(
        Part(first=number, end=number + 1, parameters=parameters)
        for number, parameters in enumerate(_parameters(scenario, stage))
    )


def _parameters(scenario: Scenario, stage: Outline) -> Iterable[StageParameters]:
    """Yield the parameters of each work of a stage."""
    boundary = boundary_parameters(scenario, stage)
    first = boundary if stage.has_embedding and not stage.has_head else 0.0
    if stage.has_embedding and stage.has_head:
        embedding = Outline(layers=stage.layers, has_embedding=True, has_head=False)
        first = boundary_parameters(scenario, embedding)
    if stage.has_embedding:
        yield StageParameters(dense=first, experts=0.0)
    inner = 0.0 if stage.has_embedding or stage.has_head else boundary
    for has_experts, block in stage.layers:
        part = parameters_of_kind(scenario, has_experts, block)
        yield replace(part, dense=part.dense + inner) if inner else part
        inner = 0.0
    for number in range(stage.predictions):
        yield prediction_parameters(scenario, number)
        yield StageParameters(dense=0.0, experts=0.0)  # its head is the model's
    if stage.has_head:
        yield StageParameters(dense=boundary - first, experts=0.0)


@remembered
def bucket_collectives(
    scenario: Scenario, parameters: StageParameters, works: int
) -> tuple[tuple[Collective, ...], tuple[Collective, ...], tuple[Collective, ...]]:
    """Return the collectives that reduce a bucket's gradients, sum these up and gather its weights.

    Args:
        scenario: The request.
        parameters: Parameters of the bucket.
        works: How many works of a stage it holds.
    """
    dense, experts = parameters.dense, parameters.experts
    sharings = ((dense_sharing(scenario), dense), (expert_sharing(scenario), experts))
    each = reduced_bytes(scenario)
    tensors = works * weight_tensors(scenario)
    reduces: tuple[Collective, ...]
    sums: tuple[Collective, ...] = ()
    gathers: tuple[Collective, ...] = ()
    if scenario.parallelism.sharding == "none":
        wholes = [(sharing.whole, size * each) for sharing, size in sharings]
        reduces = _collectives("all_reduce", wholes, "grad_reduce")
    elif scenario.parallelism.sharding == "zero1" and scenario.software.sums_whole_gradients:
        wholes = [(sharing.whole, size * each) for sharing, size in sharings]
        reduces = _collectives("all_reduce", wholes, "grad_reduce")
        gathers = _gathers(scenario, [(sharing.shard, size) for sharing, size in sharings], tensors)
    else:
        shards = [(sharing.shard, size) for sharing, size in sharings]
        replicas = [(sharing.replica, size * each / sharing.shard.size) for sharing, size in sharings]
        reduces = _collectives(
            "reduce_scatter", [(group, size * each) for group, size in shards], "grad_reduce"
        )
        sums = _collectives("all_reduce", replicas, "grad_replica_reduce")
        gathers = _gathers(scenario, shards, tensors)
    return reduces, sums, gathers


def _gathers(
    scenario: Scenario, shards: Iterable[tuple[Group, float]], tensors: int
) -> tuple[Collective, ...]:
    """Gather equal shards at once, or let each owner of whole tensors broadcast them in its turn."""
    gathered, broadcasts = gathered_bytes(scenario), scenario.software.broadcasts_weights
    kind: CollectiveKind = "broadcast" if broadcasts else "all_gather"
    gathers = _collectives(kind, [(group, size * gathered) for group, size in shards], "param_gather")
    if not broadcasts:
        return gathers
    return tuple(replace(each, messages=max(1, min(each.group.size, tensors))) for each in gathers)


def weight_tensors(scenario: Scenario) -> int:
    """Count the weight tensors of a dense layer: matrices, their biases, and norms with one or two each."""
    model, apart = scenario.model, scenario.software.separate_projections
    matrices = (3 if apart else 1) + 1 + (3 if model.gated else 2)
    return matrices * (2 if model.linear_bias else 1) + 2 * (2 if model.norm == "layernorm" else 1)


def _collectives(
    kind: CollectiveKind, groups: Iterable[tuple[Group, float]], name: str
) -> tuple[Collective, ...]:
    return tuple(
        Collective(kind=kind, group=group, bytes=size, name=name)
        for group, size in groups
        if group.size > 1 and size
    )
