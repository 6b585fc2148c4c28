"""From a scenario to the Program of one training step.

One data-parallel replica stands for all: ranks of the program are pipeline ranks. A step begins where all
ranks left the optimizer of the step before, so gathering parameters comes first and the optimizer last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from simulator.ragged import distinct
from simulator.scenario.remembered import remembered
from simulator.workload.layers.output_layer import output_layer
from simulator.workload.layers.settings import layer_settings
from simulator.workload.parameters.bytes import weight_cast_bytes
from simulator.workload.parameters.counts import keeps_weights_over_step
from simulator.workload.parameters.optimizer_offload import offload_buckets, offloaded_share
from simulator.workload.pipeline import pairs_passes, runs_in_pairs
from simulator.workload.step.end_works import RankEnd, amax_works, norm_work, rank_end
from simulator.workload.step.inputs import (
    BucketCounts,
    Buckets,
    EndInputs,
    FsdpInputs,
    LayoutInputs,
    OffloadedUpdate,
    PipelineInputs,
)
from simulator.workload.step.pass_bytes import by_slot, stage_bytes
from simulator.workload.step.segments import PassTable
from simulator.workload.step.slots import RankSlot
from simulator.workload.step.stages import Stage, stage_kinds, stages_of
from simulator.workload.step.structure import Structure, structure_of
from simulator.workload.step.units import copies_made, stage_units
from simulator.workload.step.works import slot_works

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.schedules import StageTimes
    from simulator.workload.program import Floats, Program
    from simulator.workload.step.stages import StageKind
    from simulator.workload.step.units import StageUnits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageKinds:
    """Which stages of a scenario are equal.

    Attributes:
        kinds: The different kinds of stages.
        index: [stage] Index of its kind.
    """

    kinds: tuple[StageKind, ...]
    index: tuple[int, ...]


class _BucketLists(TypedDict):
    buckets: tuple[Buckets, ...]
    stage_buckets: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One training step.

    Attributes:
        program: Its ops.
        structure: Its layout, with the kinds of its stages and ranks.
        stages: The pipeline stages that its ops run.
    """

    program: Program
    structure: Structure
    stages: tuple[Stage, ...]

    @property
    def held(self) -> tuple[tuple[int, ...], ...]:
        """Stages that each rank holds, in model order."""
        return self.structure.layout.held


def build_step(scenario: Scenario, times: StageTimes | None = None) -> Step:
    """Lay out one training step of a scenario.

    Args:
        scenario: The request.
        times: How long the passes of each stage take, for schedules that are made to measure.
    """
    stages = kinds_of_stages(scenario)
    inputs = layout_inputs(scenario, stages, times)
    structure = structure_of(inputs, stages.index, hardware_kinds(scenario))
    works = slot_works(scenario, structure, stages.kinds)
    used, work = distinct(structure.slot)
    allocated, freed = slot_bytes(scenario, structure, stages.kinds)[:, structure.slot]
    program = structure.program.filled(
        work=work,
        works=tuple(works[slot] for slot in used.tolist()),
        allocated_bytes=allocated,
        freed_bytes=freed,
        replicas=scenario.parallelism.gpus // scenario.parallelism.pp,
    )
    return Step(program=program, structure=structure, stages=stages_of(scenario))


@remembered
def kinds_of_stages(scenario: Scenario) -> StageKinds:
    """Return which stages of a scenario are equal."""
    every = stage_kinds(scenario)
    kinds = tuple(dict.fromkeys(every))
    return StageKinds(kinds=kinds, index=tuple(kinds.index(kind) for kind in every))


def hardware_kinds(scenario: Scenario) -> tuple[int, ...]:
    """Return for each pipeline rank one rank with the same hardware, the same one for all of these."""
    pp = scenario.parallelism.pp
    if not scenario.cluster.pools:
        return (0,) * pp
    clusters = [id(cluster) for cluster in scenario.cluster.of_pipeline_ranks(pp)]
    return tuple(clusters.index(cluster) for cluster in clusters)


def pipeline_inputs(scenario: Scenario, times: StageTimes | None = None) -> PipelineInputs:
    """Return what the order of a scenario's passes depends on."""
    parallelism = scenario.parallelism
    return PipelineInputs(
        schedule=parallelism.schedule,
        pp=parallelism.pp,
        vpp=parallelism.vpp,
        num_microbatches=scenario.num_microbatches,
        group_size=parallelism.microbatch_group_size,
        vocabulary=parallelism.vocabulary,
        in_pairs=runs_in_pairs(scenario),
        rows=parallelism.schedule_rows,
        times=times,
    )


def layout_inputs(scenario: Scenario, stages: StageKinds, times: StageTimes | None = None) -> LayoutInputs:
    """Return all that decides which ops a scenario's step has, every bucket by itself."""
    pipeline = pipeline_inputs(scenario, times)
    units = [stage_units(scenario, kind.outline) for kind in stages.kinds]
    share = offloaded_share(scenario)
    casts = weight_cast_bytes(scenario) > 0.0
    ends: list[RankEnd] = []
    if share or casts:
        outlines = [stages.kinds[kind].outline for kind in stages.index]
        held = PassTable.of(pipeline.order()).held()
        ends = [rank_end(scenario, tuple(outlines[stage] for stage in mine)) for mine in held]
    end = EndInputs(
        gradient_norm=norm_work(scenario) is not None,
        tied_embeddings=_ties_embeddings(scenario),
        updates_on_gpu=all(each.update is not None for each in ends),
        casts_weights=tuple(each.casts is not None for each in ends) if casts else (False,) * pipeline.pp,
        amax_history=amax_works(scenario, 1) is not None,
        offloaded=_offloaded(scenario, ends) if share else None,
    )
    return _inputs(scenario, pipeline, end, **_own_buckets(units, stages))


def _ties_embeddings(scenario: Scenario) -> bool:
    return scenario.model.tie_word_embeddings and scenario.parallelism.pp > 1


def _offloaded(scenario: Scenario, ends: list[RankEnd]) -> OffloadedUpdate:
    offload = scenario.training.offload
    return OffloadedUpdate(
        on_host=offload.optimizer == "cpu",
        overlaps=offload.optimizer_overlap,
        buckets=tuple(offload_buckets(scenario, end.parameters) for end in ends),
    )


def _own_buckets(units: list[StageUnits], stages: StageKinds) -> _BucketLists:
    """Return the buckets of every stage as they are, given those of each kind of stage."""
    buckets = tuple(dict.fromkeys(each.buckets for each in units))
    place = {runs: index for index, runs in enumerate(buckets)}
    lists = tuple(place[units[kind].buckets] for kind in stages.index)
    return {"buckets": buckets, "stage_buckets": lists if len(buckets) > 1 else ()}


_USUAL = BucketCounts(1, 1, 0)
"""Collectives that each bucket of a shared layout has at least: a gather and a reduction."""
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Numbers of buckets of shared layouts: few of them, so that many scenarios share one."""


def shared_inputs(scenario: Scenario, stages: StageKinds) -> LayoutInputs:
    """Return inputs whose layout takes as long as the scenario's own, and that many scenarios share.

    Buckets are rounded up to few different numbers, with empty ones, which take no time and change nothing.
    The optimizer step is one op of each rank, whatever of it goes through host memory. Buckets stay as they
    are with FSDP, which looks ahead over units, and where passes run together bucket by bucket.
    """
    units = [stage_units(scenario, kind.outline) for kind in stages.kinds]
    pipeline = pipeline_inputs(scenario)
    end = EndInputs(
        gradient_norm=norm_work(scenario) is not None,
        tied_embeddings=_ties_embeddings(scenario),
        updates_on_gpu=True,
        casts_weights=(weight_cast_bytes(scenario) > 0.0,) * pipeline.pp,
        amax_history=amax_works(scenario, 1) is not None,
    )
    if scenario.parallelism.sharding == "zero3" or pipeline.in_pairs or pairs_passes(pipeline.schedule):
        return _inputs(scenario, pipeline, end, **_own_buckets(units, stages))
    most = BucketCounts(*map(max, zip(*(each.most for each in units), strict=True)))
    if not any(most):
        return _inputs(scenario, pipeline, end, buckets=(((most, 1),),), stage_buckets=())
    works = max(kind.outline.works for kind in stages.kinds)  # as many however large buckets are
    parts = next((size for size in _SIZES if size >= works), works)
    counts = BucketCounts(*map(max, zip(most, _USUAL, strict=True)))
    return _inputs(scenario, pipeline, end, buckets=(((counts, parts),),), stage_buckets=())


def _inputs(
    scenario: Scenario,
    pipeline: PipelineInputs,
    end: EndInputs,
    *,
    buckets: tuple[Buckets, ...],
    stage_buckets: tuple[int, ...],
) -> LayoutInputs:
    parallelism, overlap = scenario.parallelism, scenario.training.overlap
    return LayoutInputs(
        pipeline=pipeline,
        buckets=buckets,
        stage_buckets=stage_buckets,
        fsdp=_fsdp_inputs(scenario) if parallelism.sharding == "zero3" else None,
        overlaps_grad_reduce=overlap.grad_reduce,
        overlaps_param_gather=overlap.param_gather,
        overlaps_p2p=overlap.p2p,
        reduces_every_microbatch=parallelism.reduce_every_microbatch,
        end=end,
    )


def _fsdp_inputs(scenario: Scenario) -> FsdpInputs:
    parallelism = scenario.parallelism
    into, out = copies_made(scenario)
    return FsdpInputs(
        ahead=parallelism.prefetch if scenario.training.overlap.param_gather else 0,
        once_per_step=keeps_weights_over_step(scenario),
        reshards_after_forward=parallelism.reshard_after_forward,
        copies_in=into,
        copies_out=out,
    )


def slot_bytes(scenario: Scenario, structure: Structure, kinds: tuple[StageKind, ...]) -> Floats:
    """Return the activation bytes that the ops of each slot take when they start and give back when they end.

    Returns:
        [ALLOCATED or FREED, slot]
    """
    slots = structure.slots
    table = np.zeros((2, slots.size))
    settings = layer_settings(scenario)
    for number, holding in enumerate(structure.holdings):
        kind = kinds[structure.stage_kind[structure.layout.holdings[holding].stage]]
        starts = stage_units(scenario, kind.outline).starts
        first = number * slots.per_holding
        passes = stage_bytes(kind, settings, starts).table
        table[:, first : first + slots.collectives] = by_slot(passes, slots.parts)
    for number, pair in enumerate(slots.pairs):
        forward, backward = slots.first_pair + 2 * number, slots.first_pair + 2 * number + 1
        table[:, forward] = table[
            :, pair.forward_holding * slots.per_holding + slots.of_pass(0, pair.forward_part)
        ]
        table[:, backward] = table[
            :, pair.backward_holding * slots.per_holding + slots.of_pass(1, pair.backward_part)
        ]
    if scenario.parallelism.vocabulary != "none":
        saved = output_layer(settings, scenario.parallelism.pp, scenario.parallelism.vocabulary).saved_bytes
        ranks = np.arange(slots.ranks)
        table[0, slots.of_rank(ranks, RankSlot.OUTPUT_FORWARD)] = saved
        table[1, slots.of_rank(ranks, RankSlot.OUTPUT_BACKWARD)] = saved
    return table
