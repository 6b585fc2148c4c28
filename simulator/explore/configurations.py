"""One scenario as the costs of a template's slots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from simulator.costs.price import alone_s, price
from simulator.costs.system import System
from simulator.engines import compiled
from simulator.explore import templates
from simulator.explore.bucket_costs import (
    COPIES,
    EACH,
    WHICH,
    BucketCosts,
    Counts,
    bucket_costs,
    collective_seconds,
)
from simulator.explore.part_costs import (
    message_seconds,
    overhead_seconds,
    pass_costs,
    working_bytes,
)
from simulator.explore.templates import Template, make_template
from simulator.results.metrics import peak_flop_per_s
from simulator.scenario.remembered import remembered
from simulator.workload.optimizer_offload import append_offloaded_update, offloaded_share
from simulator.workload.parameter_bytes import weight_cast_bytes
from simulator.workload.pipeline import CUSTOM, runs_in_pairs, uses_times
from simulator.workload.precision import quantisation
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.schedules import SCHEDULES, Overlapped, Request
from simulator.workload.stage_copies import tied_work
from simulator.workload.stages import layer_settings, stage_kinds
from simulator.workload.static_memory import held_memory, summed_bytes
from simulator.workload.step_end import norm_work, rank_end
from simulator.workload.weights import keeps_weights_over_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.workload.program import Floats, Ints
    from simulator.workload.stages import LayerSettings, StageKind

TERMS = ("framework", "weights", "gradients", "optimizer", "communication_buffers", "logits")
"""Terms of memory besides activations and what the allocator loses."""
_USUAL = (1, 1, 0)
"""Collectives that each bucket of a template has at least: a gather and a reduction."""
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Numbers of buckets that templates have: few of them, so that many configurations share one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shape:
    """How the stages of a scenario are alike.

    Attributes:
        kinds: Kind of each stage.
        distinct: The different ones.
        which: Place of each stage's kind among them.
    """

    kinds: tuple[StageKind, ...]
    distinct: tuple[StageKind, ...]
    which: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranks:
    """How the ranks of a template are alike.

    Attributes:
        distinct: Different lists of stage kinds that ranks hold.
        which: Place of each rank's list among them.
    """

    distinct: tuple[tuple[StageKind, ...], ...]
    which: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Configuration:
    """A scenario in the terms of a template.

    Attributes:
        template: Its structure.
        costs: Seconds alone, share of matrix kernels or multiprocessors, bytes taken and given back, by slot.
        summed: Bytes of the whole gradients of each stage that exist only while they are summed up.
        static: Bytes that each rank (rows) holds besides activations, by ``TERMS``; of gradients without what
            passes add.
        scenario: The scenario.
    """

    template: Template
    costs: Floats
    summed: Floats
    static: Floats
    scenario: Scenario


def is_regular(scenario: Scenario) -> bool:
    """Tell whether a scenario's step is a template; the others have to be laid out op by op."""
    parallelism, training = scenario.parallelism, scenario.training
    return (
        parallelism.schedule != CUSTOM
        and SCHEDULES[parallelism.schedule].copies == 1
        and parallelism.vocabulary == "none"
        and not uses_times(scenario)
        and not _runs_in_pairs(parallelism.schedule, parallelism.pp, parallelism.vpp)
        and not runs_in_pairs(scenario)
        and not training.post_validation
        and not scenario.cluster.pools
        and not _agrees_on_scales(scenario)
    )


@cache
def _runs_in_pairs(schedule: str, pp: int, vpp: int) -> bool:
    """Tell whether some passes of a schedule run together."""
    request = Request(pp=pp, vpp=vpp, num_microbatches=2 * pp)
    return any(isinstance(entry, Overlapped) for rank in SCHEDULES[schedule].order(request) for entry in rank)


def _agrees_on_scales(scenario: Scenario) -> bool:
    quantised = quantisation(scenario)
    return quantised is not None and bool(quantised.recipe.history)


@remembered
def shape_of(scenario: Scenario) -> Shape:
    """Return how the stages of a scenario are alike."""
    kinds = stage_kinds(scenario)
    distinct = tuple(dict.fromkeys(kinds))
    return Shape(kinds=kinds, distinct=distinct, which=np.array([distinct.index(kind) for kind in kinds]))


@remembered
def _ranks_of(_scenario: Scenario, shape: Shape, held: tuple[tuple[int, ...], ...]) -> Ranks:
    mine = [tuple(shape.kinds[stage] for stage in stages) for stages in held]
    distinct = tuple(dict.fromkeys(mine))
    return Ranks(distinct=distinct, which=np.array([distinct.index(each) for each in mine]))


def configure(scenario: Scenario) -> Configuration:
    """Return a regular scenario in the terms of its template.

    Raises:
        InputError: It asks for what its hardware or software does not have.
    """
    peak_flop_per_s(scenario.cluster, scenario.training.precision)
    settings, shape = layer_settings(scenario), shape_of(scenario)
    costs_of = [bucket_costs(scenario, kind) for kind in shape.distinct]
    buckets = _buckets(scenario, shape, costs_of)
    template = _template(scenario, shape, buckets)
    cuts = scenario.parallelism.sharding == "zero3" or any(map(any, buckets[0]))
    rows = [
        _stage_costs(scenario, kind, settings, bucket, template.slots.parts, cuts=cuts)
        for kind, bucket in zip(shape.distinct, costs_of, strict=True)
    ]
    ranks = _ranks_of(scenario, shape, template.held)
    costs = np.zeros((4, template.slots.singles + 3))
    stages = np.stack(rows, axis=1)[:, shape.which]
    costs[:, : template.slots.messages] = stages.reshape(4, -1)
    costs[0, template.slots.messages :] = _end_seconds(scenario, template, ranks)
    summed = np.array([summed_bytes(scenario, kind) for kind in shape.distinct])[shape.which]
    static = np.array([_static_bytes(scenario, kinds, settings) for kinds in ranks.distinct])[ranks.which]
    return Configuration(template=template, costs=costs, summed=summed, static=static, scenario=scenario)


def _buckets(
    scenario: Scenario, shape: Shape, costs: Sequence[BucketCosts]
) -> tuple[tuple[Counts, ...], ...]:
    """Return how many collectives the buckets of each stage have in the template.

    Fully sharded units have theirs, since each looks ahead over those that follow. For others there are as
    many as keep the number of templates small.
    """
    if scenario.parallelism.sharding == "zero3":
        distinct = [each.counts for each in costs]
        return tuple(distinct[which] for which in shape.which.tolist())
    counts = tuple(map(max, zip(*(count for each in costs for count in each.counts), strict=True)))
    if not any(counts):
        return ((counts,),) * len(shape.kinds)
    most = max(
        max(len(kind.layers), len(each.counts)) for kind, each in zip(shape.distinct, costs, strict=True)
    )
    parts = next(size for size in _SIZES if size >= most)
    return ((tuple(map(max, zip(counts, _USUAL, strict=True))),) * parts,) * len(shape.kinds)


def _stage_costs(
    scenario: Scenario,
    kind: StageKind,
    settings: LayerSettings,
    buckets: BucketCosts,
    parts: int,
    *,
    cuts: bool,
) -> Floats:
    """Return the costs of the slots of one stage; both kinds of costs are objects that stay the same.

    Args:
        scenario: The request.
        kind: The stage.
        settings: Settings of its layers.
        buckets: Costs of its buckets.
        parts: Buckets of the template.
        cuts: Whether passes may be cut into buckets.
    """
    passes = pass_costs(scenario, kind, settings, parts if cuts else len(buckets.counts))
    key = (id(passes), id(buckets), parts)
    if key not in _joined:
        if len(_joined) >= _MOST_JOINED:
            _joined.clear()
        _joined[key] = _joined_costs(passes, buckets, parts, cuts=cuts), passes, buckets
    return _joined[key][0]


_MOST_JOINED = 100_000
_joined: dict[tuple[int, int, int], tuple[Floats, Floats, BucketCosts]] = {}
"""Costs of slots by the objects that they were made of, which are kept so that nothing else has their id."""


def _joined_costs(passes: Floats, buckets: BucketCosts, parts: int, *, cuts: bool) -> Floats:
    slots = passes.shape[1] * (1 + parts)
    copies = slots + parts * len(WHICH) * EACH
    costs = np.zeros((4, copies + parts * len(COPIES)))
    if cuts:
        costs[:, :slots] = passes.reshape(4, -1)
        costs[0, slots : slots + buckets.seconds.size] = buckets.seconds.reshape(-1)
        costs[1, slots : slots + buckets.held.size] = buckets.held.reshape(-1)
        costs[0, copies : copies + buckets.copies.size] = buckets.copies.reshape(-1)
    else:  # passes run whole
        costs[:, : slots : 1 + parts] = passes[:, :, 0]
    has_time = costs[0, :slots] > 0.0
    share = costs[1, :slots]
    share[has_time] = np.minimum(1.0, share[has_time] / costs[0, :slots][has_time])
    return costs


def _end_seconds(scenario: Scenario, template: Template, ranks: Ranks) -> Floats:
    """Return the seconds of messages, of optimizer steps and casts by rank, and of what there is one of."""
    ends = np.array([_update_seconds(scenario, kinds) for kinds in ranks.distinct]).T
    norm = norm_work(scenario)
    singles = (
        0.0 if norm is None else collective_seconds(scenario, norm),
        _tied_seconds(scenario, template),
        overhead_seconds(scenario),
    )
    messages = message_seconds(scenario, template.slots.pairs)
    return np.concatenate((messages, ends[:, ranks.which].reshape(-1), singles))


def _tied_seconds(scenario: Scenario, template: Template) -> float:
    last = template.slots.stages - 1
    first_rank, last_rank = (
        next(rank for rank, held in enumerate(template.held) if stage in held) for stage in (0, last)
    )
    if not scenario.model.tie_word_embeddings or first_rank == last_rank:
        return 0.0
    return collective_seconds(scenario, tied_work(scenario, first_rank, last_rank))


@remembered
def _update_seconds(scenario: Scenario, kinds: tuple[StageKind, ...]) -> tuple[float, float]:
    """Return the seconds of a rank's update, what passes through host memory included, and of its casts.

    The update begins when the gradient norm is known and the rank has nothing else to do, so that how long
    copies, updates on the GPU and those of the host take together does not depend on what came before.
    """
    system, end = System.of(scenario), rank_end(scenario, kinds)
    casts_s = 0.0 if end.casts is None else alone_s(end.casts, system)
    if not offloaded_share(scenario):
        return 0.0 if end.update is None else alone_s(end.update, system), casts_s
    builder = ProgramBuilder(rank_names=("rank",))
    if end.update is not None:
        builder.add(OpKind.OPTIMIZER, 0, Stream.COMPUTE, end.update)
    append_offloaded_update(scenario, builder, 0, end.parameters, ())
    program = builder.build()
    return compiled.run(program, price(program, system)).makespan_s, casts_s


def _static_bytes(
    scenario: Scenario, kinds: tuple[StageKind, ...], settings: LayerSettings
) -> tuple[float, ...]:
    logits = max(working_bytes(scenario, kind, settings) for kind in kinds)
    return (*_held_bytes(scenario, kinds), logits)


def _held_bytes(scenario: Scenario, kinds: tuple[StageKind, ...]) -> tuple[float, ...]:
    memory = held_memory(scenario, kinds)
    return tuple(getattr(memory, term) for term in TERMS[:-1])


_templates: dict[tuple[object, ...], Template] = {}
_MOST_OPS = 20_000_000
"""Ops of the templates that are kept; each takes some 200 bytes."""


def _template(scenario: Scenario, shape: Shape, buckets: tuple[tuple[Counts, ...], ...]) -> Template:
    """Return the template of a scenario: the same for all with the same structure."""
    parallelism, overlap, software = scenario.parallelism, scenario.training.overlap, scenario.software
    sharded = parallelism.sharding == "zero3" and (
        parallelism.prefetch,
        parallelism.reshard_after_forward,
        keeps_weights_over_step(scenario),
        software.unshard_copies,
        software.gathers_tensor_by_tensor,
        shape.kinds[0].outline.has_head,
        shape.kinds[-1].outline.has_embedding,
    )
    key = (
        parallelism.schedule,
        parallelism.pp,
        parallelism.vpp,
        scenario.num_microbatches,
        parallelism.microbatch_group_size,
        parallelism.reduce_every_microbatch,
        buckets,
        sharded,
        (overlap.grad_reduce, overlap.param_gather, overlap.p2p),
        norm_work(scenario) is None,
        scenario.model.tie_word_embeddings,
        weight_cast_bytes(scenario) > 0.0,
    )
    if key not in _templates:
        if sum(each.program.num_ops for each in _templates.values()) > _MOST_OPS:
            _templates.clear()
        _templates[key] = make_template(_on_gpu(scenario), shape.kinds, buckets)
    return _templates[key]


def _on_gpu(scenario: Scenario) -> Scenario:
    """Return a scenario whose optimizer step is one op of each rank: templates have only those."""
    offload = replace(scenario.training.offload, optimizer="none")
    return replace(scenario, training=replace(scenario.training, offload=offload))


def forget() -> None:
    """Drop all templates."""
    _templates.clear()
    _joined.clear()
    templates.forget()


def chunks(configurations: Sequence[Configuration], most_bytes: float) -> list[Sequence[Configuration]]:
    """Divide configurations of one template into as many as may be evaluated at a time."""
    ops = configurations[0].template.program.num_ops
    size = max(1, min(16, int(most_bytes / 8 / ops)))
    return [configurations[first : first + size] for first in range(0, len(configurations), size)]
