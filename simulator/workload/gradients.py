"""Gradient buckets: which layers reduce their gradients, and gather their weights, in one message."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.workload.parameter_bytes import gathered_bytes
from simulator.workload.sharding import dense_sharing, expert_sharing
from simulator.workload.stages import LayerWork, Stage
from simulator.workload.weights import (
    StageParameters,
    boundary_parameters,
    gradient_bytes,
    layer_parameters_per_rank,
    prediction_parameters,
    reduced_bytes,
)
from simulator.workload.work import Collective, CollectiveKind, Group

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Consecutive layers of a stage whose gradients travel together.

    Attributes:
        works: The layers' work, in model order.
        parameters: How many parameters these layers have on one rank.
        reduces: Collectives that sum their gradients; empty without data parallelism.
        sums: Collectives that then sum shards of gradients over replicas of the shard group.
        gathers: Collectives that gather their weights; empty unless these are sharded.
    """

    works: tuple[LayerWork, ...]
    parameters: float
    reduces: tuple[Collective, ...]
    sums: tuple[Collective, ...]
    gathers: tuple[Collective, ...]


def buckets_of(scenario: Scenario, stage: Stage) -> list[Bucket]:
    """Divide a stage into buckets of whole layers, each at least ``bucket_bytes`` of gradients."""
    limit = scenario.software.bucket_bytes
    buckets: list[Bucket] = []
    works: list[LayerWork] = []
    dense = experts = 0.0
    for work, part in _parts(scenario, stage):
        works.append(work)
        dense, experts = dense + part.dense, experts + part.experts
        if (dense + experts) * gradient_bytes(scenario) >= limit:
            buckets.append(_bucket(scenario, works, dense, experts))
            works, dense, experts = [], 0.0, 0.0
    if works:
        buckets.append(_bucket(scenario, works, dense, experts))
    return buckets


def units_of(scenario: Scenario, stage: Stage) -> list[Bucket]:
    """Divide a stage into layers that gather their weights each by itself: FSDP's units."""
    return [_bucket(scenario, [work], part.dense, part.experts) for work, part in _parts(scenario, stage)]


def _parts(scenario: Scenario, stage: Stage) -> Iterable[tuple[LayerWork, StageParameters]]:
    """Pair each work of a stage with its parameters."""
    works = iter(stage.works)
    boundary = boundary_parameters(scenario, stage)
    first = boundary if stage.has_embedding and not stage.has_head else 0.0
    if stage.has_embedding and stage.has_head:
        first = boundary_parameters(scenario, _only_embedding(stage))
    if stage.has_embedding:
        yield next(works), StageParameters(dense=first, experts=0.0)
    inner = 0.0 if stage.has_embedding or stage.has_head else boundary
    for layer in stage.layers:
        part = layer_parameters_per_rank(scenario, layer)
        yield next(works), replace(part, dense=part.dense + inner)
        inner = 0.0
    for number in range(stage.predictions):
        yield next(works), prediction_parameters(scenario, number)
        yield next(works), StageParameters(dense=0.0, experts=0.0)  # its head is the model's
    if stage.has_head:
        yield next(works), StageParameters(dense=boundary - first, experts=0.0)


def _only_embedding(stage: Stage) -> Stage:
    return Stage(layers=stage.layers, works=stage.works, has_embedding=True, has_head=False)


def _bucket(scenario: Scenario, works: list[LayerWork], dense: float, experts: float) -> Bucket:
    sharings = ((dense_sharing(scenario.parallelism), dense), (expert_sharing(scenario.parallelism), experts))
    each = reduced_bytes(scenario)
    tensors = len(works) * weight_tensors(scenario)
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
    return Bucket(works=tuple(works), parameters=dense + experts, reduces=reduces, sums=sums, gathers=gathers)


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
