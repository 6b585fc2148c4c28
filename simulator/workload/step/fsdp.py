"""Sharded weights: ZeRO-3, FSDP full shard, hybrid sharding, and FSDP without resharding after forward.

Every layer is a unit. Its weights are gathered before it runs, at most ``ahead`` units ahead of the one that
runs, so that no more than ``ahead + 1`` units are whole at a time (FSDP's rate limiter keeps two,
arXiv:2304.11277, sections 3.3 and 3.4). After a backward pass its gradients are reduce-scattered, and with
replicas of the shard group the shards are then summed over these. One unit ahead, forward passes of three:

    dp gather   gather 0   gather 1   gather 2
    compute                F 0        F 1       F 2
                                      gather 2 waits for F 0, which frees room for it

Gathers and reduce-scatters of a rank use one communicator, which runs them one at a time in the order in
which they were issued (arXiv:2304.11277, section 3.3.2): one stream carries both. The embedding and the
head belong to FSDP's outermost unit, which stays whole from the forward to the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.schedules.op_kind import OpKind
from simulator.workload.program import Stream
from simulator.workload.step.data_parallel import (
    AttachedOps,
    gather_ops,
    has_any,
    num_buckets,
    reducing_passes,
)
from simulator.workload.step.segments import NEEDS_WEIGHTS, is_one_of

if TYPE_CHECKING:
    from simulator.workload.program import Bools, Ints
    from simulator.workload.step.inputs import FsdpInputs, LayoutInputs
    from simulator.workload.step.segments import PassTable, Segments
    from simulator.workload.step.slots import Slots


def unit_passes(inputs: LayoutInputs, passes: PassTable, fsdp: FsdpInputs) -> Ints:
    """Return into how many units each pass is cut; 0: it runs whole, for it gathers and reduces nothing."""
    of_layers, of_boundary = _gathering(passes, fsdp)
    stage = np.maximum(passes.stage, 0)
    count = num_buckets(inputs)
    last = inputs.pipeline.stages - 1
    has_layers, has_boundary = np.zeros((2, last + 1), dtype=np.bool_)
    lists = inputs.bucket_lists()
    for index, of_stage in enumerate(inputs.list_of_stage().tolist()):
        gathers = [counts.gathers > 0 for counts in lists[of_stage]]
        first, end = int(index == 0), len(gathers) - (index == last)
        has_layers[index] = any(gathers[first:end])
        has_boundary[index] = any(gathers[:first] + gathers[end:])
    cut = (of_layers & has_layers[stage]) | (of_boundary & has_boundary[stage])
    reducing = reducing_passes(inputs, passes)
    cut[reducing] |= has_any(inputs, lambda counts: counts.reduces + counts.sums)[passes.stage[reducing]]
    units: Ints = np.where(cut & (passes.stage >= 0), count[stage], 0)
    return units


def _gathering(passes: PassTable, fsdp: FsdpInputs) -> tuple[Bools, Bools]:
    """Tell which passes gather the weights of layers, and which those of the embedding and the head."""
    is_forward = passes.kind == OpKind.FORWARD
    if fsdp.once_per_step:
        first = np.zeros(len(passes), dtype=np.bool_)
        first[passes.first_forward()] = True
        return first, first
    again = is_one_of(passes.kind, NEEDS_WEIGHTS) if fsdp.reshards_after_forward else is_forward
    return again, is_forward


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitGathers:
    """What gathers weights, and what copies gathered ones before a unit runs.

    Attributes:
        ops: Gathers, before the groups of segments ahead of which they are issued.
        segment: [gather] Segment that needs its weights.
        freed: [gather] Segment whose end frees room for them, or -1.
        copies: Copies of gathered weights, before the groups that need them.
        copied: [copy] Segment that needs its weights.
    """

    ops: AttachedOps
    segment: Ints
    freed: Ints
    copies: AttachedOps
    copied: Ints


def unit_gathers(inputs: LayoutInputs, segments: Segments, slots: Slots, fsdp: FsdpInputs) -> UnitGathers:
    """Return what gathers the weights of a step's units."""
    passes, unit_ops = segments.passes, gather_ops(inputs, slots)
    of_layers, of_boundary = _gathering(passes, fsdp)
    pass_, unit = segments.pass_, segments.bucket
    stage = passes.stage[pass_]
    last = np.append(num_buckets(inputs), 0)[stage] - 1
    is_boundary = ((stage == 0) & (unit == 0)) | ((stage == inputs.pipeline.stages - 1) & (unit == last))
    gathers = np.where(is_boundary, of_boundary[pass_], of_layers[pass_]) & (unit >= 0)
    segment = np.flatnonzero(gathers)
    segment = segment[unit_ops.counts(stage[segment], unit[segment]) > 0]
    issued, freed = _issue(segments, fsdp.ahead)
    of_unit, op = unit_ops.expand(stage[segment], unit[segment])
    first_slot = passes.holding[pass_] * slots.per_holding
    of_gather = segment[of_unit]
    # Segments of a group may be issued together: a stable sort keeps the order of segments.
    order = np.argsort(segments.group[issued[of_gather]], kind="stable")
    of_gather, op = of_gather[order], op[order]
    copied = np.repeat(segment, len(fsdp.copies_in))
    copy = np.tile(np.array(fsdp.copies_in, dtype=np.int64), len(segment))
    first_copy = np.array([slots.of_copy(index, 0) for index in range(slots.buckets)], dtype=np.int64)
    return UnitGathers(
        ops=AttachedOps.of(
            unit_ops,
            op,
            group=segments.group[issued[of_gather]],
            first_slot=first_slot[of_gather],
            stage=stage[of_gather],
            microbatch=passes.microbatch[pass_[of_gather]],
        ),
        segment=of_gather,
        freed=freed[of_gather],
        copies=AttachedOps(
            group=segments.group[copied],
            slot=first_slot[copied] + first_copy[unit[copied]] + copy,
            kind=np.full(len(copied), OpKind.KERNEL),
            stream=np.full(len(copied), Stream.COMPUTE),
            stage=stage[copied],
            microbatch=np.full(len(copied), -1),
        ),
        copied=copied,
    )


def _issue(segments: Segments, ahead: int) -> tuple[Ints, Ints]:
    """Return for each segment the one before which its gather is issued, and the one that frees room for it.

    Counted are segments that run through a stage; those that run together need their weights together.
    """
    passes = segments.passes
    runs = np.flatnonzero(passes.stage[segments.pass_] >= 0)  # [run] segment
    rank = passes.rank[segments.pass_[runs]]
    first_of_rank = np.searchsorted(rank, np.arange(passes.ranks))[rank]
    run_of = np.zeros(len(segments), dtype=np.int64)
    run_of[runs] = np.arange(len(runs))
    opens = run_of[segments.group_start[segments.group[runs]]]  # first run of its group
    issued, freed = np.full((2, len(segments)), -1)
    before = np.maximum(opens - ahead, first_of_rank)
    before += opens[before] < before  # not amid a group: what frees room for them has run by then
    issued[runs] = runs[before]
    frees = opens - ahead - 1
    has_room = np.flatnonzero(frees >= first_of_rank)
    freed[runs[has_room]] = segments.last_of_group(runs[frees[has_room]])
    return issued, freed
