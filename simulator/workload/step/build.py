"""From a scenario to the Program of one training step.

One data-parallel replica stands for all: ranks of the program are pipeline ranks. A step begins where all
ranks left the optimizer of the step before, so gathering parameters comes first and the optimizer last.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from simulator.ragged import distinct
from simulator.scenario.sharding import keeps_weights_over_step
from simulator.workload.layers.output_layer import output_layer
from simulator.workload.pipeline import Pipeline, pairs_passes
from simulator.workload.step.end_works import RankEnd, rank_buckets, rank_end
from simulator.workload.step.inputs import (
    BucketCounts,
    Buckets,
    EndInputs,
    FsdpInputs,
    LayoutInputs,
    OffloadedUpdate,
)
from simulator.workload.step.pass_bytes import put_passes, stage_bytes
from simulator.workload.step.segments import pass_table
from simulator.workload.step.settings import step_settings
from simulator.workload.step.slots import RankSlot
from simulator.workload.step.stages import Stage, stages_of
from simulator.workload.step.structure import Structure, structure_of
from simulator.workload.step.units import stage_units
from simulator.workload.step.works import slot_works

if TYPE_CHECKING:
    from simulator.scenario import Cluster, Scenario
    from simulator.schedules import StageTimes
    from simulator.workload.parameters.model_states import ModelStates
    from simulator.workload.parameters.stage_outline import StageOutline
    from simulator.workload.program import Floats, Program
    from simulator.workload.step.settings import EndSettings, StepSettings
    from simulator.workload.step.structure import Arrangement
    from simulator.workload.step.units import StageUnits


BucketLists = tuple[tuple[Buckets, ...], tuple[int, ...]]
"""The different lists of buckets that stages have, and the index of each stage's; see ``LayoutInputs``."""


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
    settings = step_settings(scenario)
    inputs = layout_inputs(scenario, settings, times)
    hardware = hardware_kinds(scenario.cluster, settings.mesh.pp)
    structure = structure_of(inputs, settings.stages.index, hardware)
    works = slot_works(settings, structure.arrangement)
    used, work = distinct(structure.slot)
    allocated, freed = slot_bytes(settings, structure.arrangement)[:, structure.slot]
    program = structure.program.filled(
        work=work,
        works=tuple(works[slot] for slot in used.tolist()),
        allocated_bytes=allocated,
        freed_bytes=freed,
        replicas=settings.mesh.gpus // settings.mesh.pp,
    )
    return Step(program=program, structure=structure, stages=stages_of(settings.stages, settings.layers))


def hardware_kinds(cluster: Cluster, pp: int) -> tuple[int, ...]:
    """Return for each pipeline rank one rank with the same hardware, the same one for all of these."""
    if not cluster.pools:
        return (0,) * pp
    clusters = [id(pool) for pool in cluster.of_pipeline_ranks(pp)]
    return tuple(clusters.index(pool) for pool in clusters)


def layout_inputs(
    scenario: Scenario, settings: StepSettings, times: StageTimes | None = None
) -> LayoutInputs:
    """Return all that decides which ops a scenario's step has, every bucket by itself."""
    pipeline, states, stages = Pipeline.of(scenario), settings.states, settings.stages
    casts = states.sizes.cast > 0.0
    ends: list[RankEnd] = []
    if states.offload.share or casts:
        outlines = stages.outlines(stages.index)
        held = pass_table(pipeline).held()
        ends = [rank_end(states, tuple(outlines[stage] for stage in of_rank)) for of_rank in held]
    end = EndInputs(
        gradient_norm=settings.end.gradient_norm is not None,
        tied_embeddings=settings.end.ties_embeddings,
        updates_on_gpu=all(end.update is not None for end in ends),
        casts_weights=tuple(end.casts is not None for end in ends) if casts else (False,) * pipeline.pp,
        amax_history=settings.end.amax_ranks > 0,
        offloaded=_offloaded(states, ends) if states.offload.share else None,
    )
    units = [stage_units(states, kind.outline) for kind in stages.kinds]
    return _inputs(scenario, settings, pipeline, end, _own_buckets(units, stages.index), times)


def _offloaded(states: ModelStates, ends: list[RankEnd]) -> OffloadedUpdate:
    return OffloadedUpdate(
        on_host=states.offload.method == "cpu",
        overlaps=states.offload.overlaps,
        buckets=tuple(rank_buckets(states, end.parameters) for end in ends),
    )


def _own_buckets(units: list[StageUnits], index: tuple[int, ...]) -> BucketLists:
    """Return the buckets of every stage as they are, given those of each kind and the kind of each stage."""
    buckets = tuple(dict.fromkeys(stage.buckets for stage in units))
    index_of = {runs: index for index, runs in enumerate(buckets)}
    lists = tuple(index_of[units[kind].buckets] for kind in index)
    return buckets, lists if len(buckets) > 1 else ()


_USUAL = BucketCounts(1, 1, 0)
"""Collectives that each bucket of a shared layout has at least: a gather and a reduction."""
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Numbers of buckets of shared layouts: few of them, so that many scenarios share one."""


def shared_inputs(scenario: Scenario, settings: StepSettings, pipeline: Pipeline) -> LayoutInputs:
    """Return inputs whose layout takes as long as the scenario's own, and that many scenarios share.

    Buckets are rounded up to few different numbers, with empty ones, which take no time and change nothing.
    The optimizer step is one op of each rank, whatever of it goes through host memory. Buckets stay as they
    are with FSDP, which looks ahead over units, and where passes run together bucket by bucket.
    """
    paired = pipeline.runs_in_pairs or pairs_passes(pipeline.schedule)
    stages = settings.stages
    end, buckets = _shared_parts(settings.end, pipeline.pp, stages.own_outlines, stages.index, paired)
    return _inputs(scenario, settings, pipeline, end, buckets)


@lru_cache(maxsize=16384)
def _shared_parts(
    settings: EndSettings, pp: int, kinds: tuple[StageOutline, ...], index: tuple[int, ...], paired: bool
) -> tuple[EndInputs, BucketLists]:
    """Return how a step ends and the buckets of its stages, rounded up; see ``shared_inputs``."""
    states = settings.states
    end = EndInputs(
        gradient_norm=settings.gradient_norm is not None,
        tied_embeddings=settings.ties_embeddings,
        updates_on_gpu=True,
        casts_weights=(states.sizes.cast > 0.0,) * pp,
        amax_history=settings.amax_ranks > 0,
    )
    units = [stage_units(states, kind) for kind in kinds]
    if states.sharding.method == "zero3" or paired:
        return end, _own_buckets(units, index)
    most = BucketCounts(*map(max, zip(*(stage.most for stage in units), strict=True)))
    if not any(most):
        return end, ((((most, 1),),), ())
    works = max(kind.works for kind in kinds)  # as many however large buckets are
    buckets = next((size for size in _SIZES if size >= works), works)
    counts = BucketCounts(*map(max, zip(most, _USUAL, strict=True)))
    return end, ((((counts, buckets),),), ())


def _inputs(
    scenario: Scenario,
    settings: StepSettings,
    pipeline: Pipeline,
    end: EndInputs,
    buckets: BucketLists,
    times: StageTimes | None = None,
) -> LayoutInputs:
    overlap, every = scenario.training.overlap, scenario.parallelism.reduce_every_microbatch
    return LayoutInputs(
        pipeline=pipeline,
        times=times,
        buckets=buckets[0],
        stage_buckets=buckets[1],
        fsdp=_fsdp(settings, every) if settings.states.sharding.method == "zero3" else None,
        overlaps_grad_reduce=overlap.grad_reduce,
        overlaps_param_gather=overlap.param_gather,
        overlaps_p2p=overlap.p2p,
        reduces_every_microbatch=every,
        end=end,
    )


def _fsdp(settings: StepSettings, every: bool) -> FsdpInputs:
    states, pp = settings.states, settings.mesh.pp
    return FsdpInputs(
        ahead=states.ahead,
        once_per_step=keeps_weights_over_step(pp, reshards=states.reshards, reduces_every=every),
        reshards_after_forward=states.reshards,
        copies_in=settings.copying.before,
        copies_out=settings.copying.after,
    )


@lru_cache(maxsize=16384)
def slot_bytes(settings: StepSettings, arrangement: Arrangement) -> Floats:
    """Return the activation bytes that the ops of each slot take when they start and give back when they end.

    Returns:
        [ALLOCATED or FREED, slot]
    """
    slots, states = arrangement.slots, settings.states
    table = np.zeros((2, slots.size))
    blocks = table[:, : slots.first_rank].reshape(2, slots.holdings, -1)
    for index, holding in enumerate(arrangement.holdings):
        kind = settings.stages.kinds[holding.stage]
        passes = stage_bytes(kind, settings.layers, stage_units(states, kind.outline).starts).table
        put_passes(blocks[:, index], passes, slots)
    for index, pair in enumerate(slots.pairs):
        forward = slots.first_pair + 2 * index
        backward = forward + 1
        of_forward = pair.forward_holding * slots.per_holding + slots.of_pass(0, pair.forward_bucket)
        of_backward = pair.backward_holding * slots.per_holding + slots.of_pass(1, pair.backward_bucket)
        table[:, forward], table[:, backward] = table[:, of_forward], table[:, of_backward]
    if settings.vocabulary != "none":
        saved = output_layer(settings.layers, settings.mesh.pp, settings.vocabulary).saved_bytes
        ranks = np.arange(slots.ranks)
        table[0, slots.of_rank(ranks, RankSlot.OUTPUT_FORWARD)] = saved
        table[1, slots.of_rank(ranks, RankSlot.OUTPUT_BACKWARD)] = saved
    return table
