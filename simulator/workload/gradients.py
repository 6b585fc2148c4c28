"""Gradient buckets: which layers reduce their gradients, and gather their weights, in one message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.workload.grid import expert_gradient_group, gradient_group
from simulator.workload.stages import LayerWork, Stage
from simulator.workload.weights import (
    StageParameters,
    boundary_parameters,
    gradient_bytes,
    layer_parameters_per_rank,
    weight_bytes,
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
        reduces: Collectives that sum their gradients; empty without data parallelism.
        gathers: Collectives that gather their updated weights; empty unless these are sharded.
    """

    works: tuple[LayerWork, ...]
    reduces: tuple[Collective, ...]
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


def _parts(scenario: Scenario, stage: Stage) -> Iterable[tuple[LayerWork, StageParameters]]:
    """Pair each work of a stage with its parameters."""
    works = iter(stage.works)
    boundary = boundary_parameters(scenario, stage)
    first = boundary if stage.has_embedding and not stage.has_head else 0.0
    if stage.has_embedding and stage.has_head:
        first = boundary_parameters(scenario, _only_embedding(stage))
    if stage.has_embedding:
        yield next(works), StageParameters(dense=first, experts=0.0)
    for layer in stage.layers:
        yield next(works), layer_parameters_per_rank(scenario, layer)
    if stage.has_head:
        yield next(works), StageParameters(dense=boundary - first, experts=0.0)


def _only_embedding(stage: Stage) -> Stage:
    return Stage(layers=stage.layers, works=stage.works, has_embedding=True, has_head=False)


def _bucket(scenario: Scenario, works: list[LayerWork], dense: float, experts: float) -> Bucket:
    groups = (
        (gradient_group(scenario.parallelism), dense),
        (expert_gradient_group(scenario.parallelism), experts),
    )
    sharded = scenario.parallelism.sharding != "none"
    kind: CollectiveKind = "reduce_scatter" if sharded else "all_reduce"
    reduces = _collectives(kind, groups, gradient_bytes(scenario), "grad_reduce")
    gathers = _collectives("all_gather", groups, weight_bytes(scenario), "param_gather") if sharded else ()
    return Bucket(works=tuple(works), reduces=reduces, gathers=gathers)


def _collectives(
    kind: CollectiveKind, groups: Iterable[tuple[Group, float]], bytes_each: float, name: str
) -> tuple[Collective, ...]:
    return tuple(
        Collective(kind=kind, group=group, bytes=parameters * bytes_each, name=name)
        for group, parameters in groups
        if group.size > 1 and parameters
    )
