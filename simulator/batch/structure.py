"""Structures of scenarios: a template, and which of its stages are alike; shared where they are equal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from simulator.batch import template as templates
from simulator.scenario.remembered import remembered
from simulator.scenario.sharding import keeps_weights_over_step
from simulator.workload.parameters.bytes import ParameterBytes
from simulator.workload.step.end import norm_work
from simulator.workload.step.stages import stage_kinds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.batch.template import Template
    from simulator.durations.data_parallel import BucketCosts, Counts
    from simulator.scenario import Scenario
    from simulator.workload.parameters.stage_outline import StageOutline
    from simulator.workload.program import Ints
    from simulator.workload.step.stages import StageKind

_USUAL = (1, 1, 0)
"""Collectives that each bucket of a template has at least: a gather and a reduction."""
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Numbers of buckets that templates have: few of them, so that many configurations share one."""
_MOST_OPS = 20_000_000
"""Ops of the templates that are kept; each takes some 200 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alike:
    """How stages are alike: the different kinds, and the place of each stage's kind among them."""

    kinds: tuple[StageKind, ...]
    which: tuple[int, ...]


@remembered
def alike_stages(scenario: Scenario) -> Alike:
    """Return how the stages of a scenario are alike."""
    every = stage_kinds(scenario)
    kinds = tuple(dict.fromkeys(every))
    return Alike(kinds=kinds, which=tuple(kinds.index(kind) for kind in every))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Structure:
    """A template whose stages are of some kinds.

    Slots are those of the template, with those of one stage for each kind rather than for each stage.

    Attributes:
        template: The ops.
        which: Kind of each stage.
        slot: Slot of each op.
        num_slots: Number of slots.
        ranks: Different lists of kinds that ranks hold.
        rank: Which of them each rank holds.
        outer_ranks: Ranks of the first and of the last stage.
    """

    template: Template
    which: Ints
    slot: Ints
    num_slots: int
    ranks: tuple[tuple[int, ...], ...]
    rank: Ints
    outer_ranks: tuple[int, int]
    _ranks_of: dict[Alike, tuple[tuple[StageOutline, ...], ...]] = field(default_factory=dict)

    def ranks_of(self, alike: Alike) -> tuple[tuple[StageOutline, ...], ...]:
        """Return ``ranks`` with the outlines of kinds in place of their numbers."""
        found = self._ranks_of.get(alike)
        if found is None:
            found = tuple(tuple(alike.kinds[place].outline for place in mine) for mine in self.ranks)
            self._ranks_of[alike] = found
        return found

    @classmethod
    def of(cls, template: Template, which: tuple[int, ...]) -> Structure:
        """Arrange a template for stages of some kinds."""
        slots, kinds = template.slots, np.array(which)
        rest = slots.size - slots.stages * slots.per_stage
        of_stages = kinds[:, None] * slots.per_stage + np.arange(slots.per_stage)
        first = (1 + max(which)) * slots.per_stage
        moved = np.concatenate((of_stages.reshape(-1), first + np.arange(rest)))
        held = [tuple(which[stage] for stage in stages) for stages in template.held]
        ranks = tuple(dict.fromkeys(held))
        first_rank, last_rank = (
            next(rank for rank, stages in enumerate(template.held) if stage in stages)
            for stage in (0, slots.stages - 1)
        )
        return cls(
            template=template,
            which=kinds,
            slot=moved[template.slot],
            num_slots=first + rest,
            ranks=ranks,
            rank=np.array([ranks.index(each) for each in held]),
            outer_ranks=(first_rank, last_rank),
        )


_structures: dict[tuple[object, ...], Structure] = {}
_templates: dict[tuple[object, ...], Template] = {}


def structure_of(
    scenario: Scenario,
    alike: Alike,
    buckets: Sequence[BucketCosts],
) -> Structure:
    """Return the structure of a scenario.

    Args:
        scenario: The request.
        alike: How its stages are alike.
        buckets: Costs of each kind's buckets.
    """
    kinds, which = alike.kinds, alike.which
    counts = _bucket_counts(scenario, kinds, buckets)
    key = _key(scenario, kinds, which, counts)
    found = _structures.get((key, which))
    if found is None:
        if key not in _templates:
            if sum(len(each.slot) for each in _templates.values()) > _MOST_OPS:
                forget()
            stages = [(kinds[place], counts[place % len(counts)]) for place in which]
            _templates[key] = templates.make_template(_on_gpu(scenario), *zip(*stages, strict=True))
        found = _structures[key, which] = Structure.of(_templates[key], which)
    return found


def _bucket_counts(
    scenario: Scenario, kinds: Sequence[StageKind], costs: Sequence[BucketCosts]
) -> tuple[tuple[Counts, ...], ...]:
    """Return how many collectives the buckets of each kind of stage have in the template; one row: of all.

    Fully sharded units have theirs, since each looks ahead over those that follow. For others there are as
    many as keep the number of templates small.
    """
    if scenario.parallelism.sharding == "zero3":
        return tuple(each.counts for each in costs)
    counts = tuple(map(max, zip(*(each.most for each in costs), strict=True)))
    if not any(counts):
        return ((counts,),)
    most = max(kind.outline.works for kind in kinds)  # as many however large buckets are
    parts = next(size for size in _SIZES if size >= most)
    return ((tuple(map(max, zip(counts, _USUAL, strict=True))),) * parts,)


def _key(
    scenario: Scenario,
    kinds: Sequence[StageKind],
    which: tuple[int, ...],
    buckets: tuple[tuple[Counts, ...], ...],
) -> tuple[object, ...]:
    """Return what the scenarios of one template have in common."""
    parallelism, overlap, software = scenario.parallelism, scenario.training.overlap, scenario.software
    sharded = parallelism.sharding == "zero3" and (
        which,
        parallelism.prefetch,
        parallelism.reshard_after_forward,
        keeps_weights_over_step(
            parallelism.pp,
            reshards=parallelism.reshard_after_forward,
            reduces_every=parallelism.reduce_every_microbatch,
        ),
        software.unshard_copies,
        software.gathers_tensor_by_tensor,
        kinds[which[0]].outline.has_head,
        kinds[which[-1]].outline.has_embedding,
    )
    return (
        parallelism.schedule,
        parallelism.pp,
        parallelism.vpp,
        scenario.num_microbatches,
        parallelism.microbatch_group_size,
        parallelism.reduce_every_microbatch,
        buckets,
        sharded,
        (overlap.grad_reduce, overlap.param_gather, overlap.p2p),
        norm_work(parallelism.gpus, post_validation=scenario.training.post_validation) is None,
        scenario.model.tie_word_embeddings,
        ParameterBytes.of(scenario).cast > 0.0,
    )


def _on_gpu(scenario: Scenario) -> Scenario:
    """Return a scenario whose optimizer step is one op of each rank: templates have only those."""
    offload = replace(scenario.training.offload, optimizer="none")
    return replace(scenario, training=replace(scenario.training, offload=offload))


def forget() -> None:
    """Drop all templates."""
    _structures.clear()
    _templates.clear()
    templates.forget()
