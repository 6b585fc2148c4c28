"""Gradient buckets: which layers reduce their gradients, and gather their weights, in one message."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.workload.parameters.counts import NONE, StageParameters, boundary_parameters
from simulator.workload.parameters.stage_outline import StageOutline
from simulator.workload.work import Collective, CollectiveKind, Group

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.scenario import Model, Software
    from simulator.workload.parameters.bytes import ParameterBytes
    from simulator.workload.parameters.counts import LocalParameters
    from simulator.workload.parameters.sharding import StateSharding


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSpan:
    """Consecutive works of a stage, from number ``first`` up to but without ``end``, and their parameters."""

    first: int
    end: int
    parameters: StageParameters


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BucketPolicy:
    """How a stack reduces gradients and gathers weights; one object for equal ones.

    Attributes:
        bucket_bytes: Bytes of gradients that fill a bucket.
        sums_whole_gradients: Whether zero1 all-reduces gradients instead of reduce-scattering them.
        broadcasts_weights: Whether owners of whole tensors broadcast them, one owner after the other, instead
            of gathering equal shards.
        tensors: Weight tensors of a dense layer: matrices, their biases, and norms with one or two each.
    """

    bucket_bytes: float
    sums_whole_gradients: bool
    broadcasts_weights: bool
    tensors: int

    @staticmethod
    def of(software: Software, model: Model) -> BucketPolicy:
        """Return the policy of a stack for a model."""
        tensors = weight_tensors(
            gated=model.gated,
            has_bias=model.linear_bias,
            layer_norm=model.norm == "layernorm",
            separate_projections=software.separate_projections,
        )
        return _interned(
            software.bucket_bytes, software.sums_whole_gradients, software.broadcasts_weights, tensors
        )


@lru_cache(maxsize=1024)
def _interned(
    bucket_bytes: float, sums_whole_gradients: bool, broadcasts_weights: bool, tensors: int
) -> BucketPolicy:
    return BucketPolicy(
        bucket_bytes=bucket_bytes,
        sums_whole_gradients=sums_whole_gradients,
        broadcasts_weights=broadcasts_weights,
        tensors=tensors,
    )


def weight_tensors(*, gated: bool, has_bias: bool, layer_norm: bool, separate_projections: bool) -> int:
    """Count the weight tensors of a dense layer: matrices, their biases, and norms with one or two each."""
    matrices = (3 if separate_projections else 1) + 1 + (3 if gated else 2)
    return matrices * (2 if has_bias else 1) + 2 * (2 if layer_norm else 1)


@lru_cache(maxsize=16384)
def bucket_spans(
    local: LocalParameters, stage: StageOutline, gradient_bytes: float, bucket_bytes: float
) -> tuple[BucketSpan, ...]:
    """Divide a stage into buckets of whole layers, each at least ``bucket_bytes`` of gradients.

    Args:
        local: Parameters of each part of the model on one rank.
        stage: The stage.
        gradient_bytes: Bytes of one accumulated gradient.
        bucket_bytes: Bytes of gradients that fill a bucket.
    """
    spans: list[BucketSpan] = []
    first = 0
    dense = experts = 0.0
    units = unit_spans(local, stage)
    for unit in units:
        dense, experts = dense + unit.parameters.dense, experts + unit.parameters.experts
        if (dense + experts) * gradient_bytes >= bucket_bytes or unit.end == len(units):
            parameters = StageParameters(dense=dense, experts=experts)
            spans.append(BucketSpan(first=first, end=unit.end, parameters=parameters))
            first, dense, experts = unit.end, 0.0, 0.0
    return tuple(spans)


@lru_cache(maxsize=16384)
def unit_spans(local: LocalParameters, stage: StageOutline) -> tuple[BucketSpan, ...]:
    """Return each work of a stage with its parameters: FSDP's units."""
    return tuple(
        BucketSpan(first=index, end=index + 1, parameters=parameters)
        for index, parameters in enumerate(_parameters(local, stage))
    )


def _parameters(local: LocalParameters, stage: StageOutline) -> Iterable[StageParameters]:
    """Yield the parameters of each work of a stage."""
    boundary = boundary_parameters(local, stage)
    first = boundary if stage.has_embedding and not stage.has_head else 0.0
    if stage.has_embedding and stage.has_head:
        embedding = StageOutline(layers=stage.layers, has_embedding=True, has_head=False)
        first = boundary_parameters(local, embedding)
    if stage.has_embedding:
        yield StageParameters(dense=first, experts=0.0)
    inner = 0.0 if stage.has_embedding or stage.has_head else boundary
    for key in stage.layers:
        part = local.layers[key]
        yield replace(part, dense=part.dense + inner) if inner else part
        inner = 0.0
    for index in range(stage.predictions):
        yield local.of_prediction(index)
        yield NONE  # its head is the model's
    if stage.has_head:
        yield StageParameters(dense=boundary - first, experts=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketCollectives:
    """Collectives of one bucket.

    Attributes:
        reduces: Those that sum its gradients over the ranks of a shard group, or over all.
        sums: Those that then sum shards of gradients over replicas of the shard group.
        gathers: Those that gather its weights.
    """

    reduces: tuple[Collective, ...]
    sums: tuple[Collective, ...] = ()
    gathers: tuple[Collective, ...] = ()


@lru_cache(maxsize=16384)
def bucket_collectives(
    parameters: StageParameters,
    works: int,
    sharding: StateSharding,
    sizes: ParameterBytes,
    policy: BucketPolicy,
) -> BucketCollectives:
    """Return the collectives of a bucket.

    Args:
        parameters: Its parameters.
        works: How many works of a stage it holds.
        sharding: Who shares them.
        sizes: Bytes of a parameter as it travels.
        policy: How the stack sends them.
    """
    sharings = ((sharding.dense, parameters.dense), (sharding.experts, parameters.experts))
    wholes = [(sharing.whole, size * sizes.reduced) for sharing, size in sharings]
    if sharding.method == "none":
        return BucketCollectives(reduces=_collectives("all_reduce", wholes, "grad_reduce"))
    shards = [(sharing.shard, size) for sharing, size in sharings]
    gathers = _gathers(shards, sizes.gathered, works * policy.tensors, policy)
    if sharding.method == "zero1" and policy.sums_whole_gradients:
        return BucketCollectives(reduces=_collectives("all_reduce", wholes, "grad_reduce"), gathers=gathers)
    sent = [(group, size * sizes.reduced) for group, size in shards]
    replicas = [(sharing.replica, size * sizes.reduced / sharing.shard.size) for sharing, size in sharings]
    return BucketCollectives(
        reduces=_collectives("reduce_scatter", sent, "grad_reduce"),
        sums=_collectives("all_reduce", replicas, "grad_replica_reduce"),
        gathers=gathers,
    )


def _gathers(
    shards: Iterable[tuple[Group, float]], gathered_bytes: float, tensors: int, policy: BucketPolicy
) -> tuple[Collective, ...]:
    """Gather equal shards at once, or let each owner of whole tensors broadcast them in its turn."""
    kind: CollectiveKind = "broadcast" if policy.broadcasts_weights else "all_gather"
    gathers = _collectives(kind, [(group, size * gathered_bytes) for group, size in shards], "param_gather")
    if not policy.broadcasts_weights:
        return gathers
    return tuple(replace(work, messages=max(1, min(work.group.size, tensors))) for work in gathers)


def _collectives(
    kind: CollectiveKind, groups: Iterable[tuple[Group, float]], name: str
) -> tuple[Collective, ...]:
    return tuple(
        Collective(kind=kind, group=group, bytes=size, name=name)
        for group, size in groups
        if group.size > 1 and size
    )
