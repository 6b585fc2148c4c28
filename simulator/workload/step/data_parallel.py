"""Data parallelism beside the pipeline: which passes are cut into buckets, and what reduces their gradients.

Plain data parallelism, ZeRO-1 and ZeRO-2 keep whole weights on every rank. Gradients are reduced in buckets
of layers, the last layers first, and where the optimizer's state is sharded the updated weights are gathered
in the same buckets at the beginning of the next step (PyTorch DDP, arXiv:2006.15704; ZeRO, arXiv:1910.02054;
Megatron-Core's distributed optimizer). With overlap, of two buckets:

    dp gather    gather 0  gather 1
    compute                F 0       F 1  ...   B 1   B 0
    dp reduce                                         reduce 1  reduce 0

Sharded weights (``fsdp``) reduce their gradients in the same way, layer by layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.ragged import ranges
from simulator.schedules.op_kind import OpKind
from simulator.workload.program import Stream
from simulator.workload.step.segments import MAKES_GRADIENTS, is_one_of
from simulator.workload.step.slots import COLLECTIVES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.workload.program import Bools, Ints
    from simulator.workload.step.inputs import BucketCounts, LayoutInputs
    from simulator.workload.step.segments import PassTable, Segments
    from simulator.workload.step.slots import Slots

_GATHERS, _REDUCES, _SUMS = range(len(COLLECTIVES))

BucketOp = tuple[int, OpKind, Stream]
"""Slot of an op in its holding's block, what it is for, and its stream."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BucketOps:
    """Ops that every bucket of every stage has, one list behind the other.

    Attributes:
        first_bucket: [stage] Index of the first bucket of each stage's list.
        start: [bucket] Where the ops of each bucket begin.
        count: [bucket] How many it has.
        slot: [op] Slot in the holding's block.
        kind: [op] ``OpKind``.
        stream: [op] Stream.
    """

    first_bucket: Ints
    start: Ints
    count: Ints
    slot: Ints
    kind: Ints
    stream: Ints

    @classmethod
    def of(cls, inputs: LayoutInputs, ops: Callable[[int, BucketCounts], Sequence[BucketOp]]) -> BucketOps:
        """List the ops of each bucket, given its index in its stage and how many collectives it has."""
        stages = inputs.bucket_lists()
        lists = [list(ops(index, bucket)) for buckets in stages for index, bucket in enumerate(buckets)]
        count = np.array([len(of_bucket) for of_bucket in lists], dtype=np.int64)
        sizes = np.array([len(buckets) for buckets in stages], dtype=np.int64)
        columns = np.array([op for of_bucket in lists for op in of_bucket], dtype=np.int64).reshape(-1, 3).T
        return cls(
            first_bucket=(np.cumsum(sizes) - sizes)[inputs.list_of_stage()],
            start=np.cumsum(count) - count,
            count=count,
            slot=columns[0],
            kind=columns[1],
            stream=columns[2],
        )

    def counts(self, stage: Ints, bucket: Ints) -> Ints:
        """Return how many ops buckets have."""
        counts: Ints = self.count[self.first_bucket[stage] + bucket]
        return counts

    def expand(self, stage: Ints, bucket: Ints) -> tuple[Ints, Ints]:
        """Return the ops of some buckets, one list behind the other.

        Args:
            stage: [asked] Stage of each bucket.
            bucket: [asked] Its index in the stage.

        Returns:
            [op] Index of the bucket among those asked for, and index of the op in the columns here.
        """
        row = self.first_bucket[stage] + bucket
        return np.repeat(np.arange(len(row)), self.count[row]), ranges(self.start[row], self.count[row])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttachedOps:
    """Ops before or after groups of segments, in the order of their groups.

    Attributes:
        group: [op] Group, ascending.
        slot: [op] Slot.
        kind: [op] ``OpKind``.
        stream: [op] Stream.
        stage: [op] Global pipeline stage, or -1.
        microbatch: [op] Micro-batch, or -1.
        join: [op] Join over several ranks, or -1.
    """

    group: Ints
    slot: Ints
    kind: Ints
    stream: Ints
    stage: Ints
    microbatch: Ints
    join: Ints | int = -1

    @classmethod
    def of(
        cls,
        buckets: BucketOps,
        op: Ints,
        *,
        group: Ints,
        first_slot: Ints,
        stage: Ints,
        microbatch: Ints | int = -1,
    ) -> AttachedOps:
        """Take ops of buckets by their indices, given the first slot of their holding's block."""
        return cls(
            group=group,
            slot=first_slot + buckets.slot[op],
            kind=buckets.kind[op],
            stream=buckets.stream[op],
            stage=stage,
            microbatch=np.broadcast_to(np.asarray(microbatch), len(op)),
        )

    def __len__(self) -> int:
        return len(self.group)


def gather_ops(inputs: LayoutInputs, slots: Slots) -> BucketOps:
    """Return the ops that gather the weights of each bucket."""
    return BucketOps.of(
        inputs,
        lambda bucket, counts: [
            (slots.of_collective(bucket, _GATHERS, index), OpKind.COLLECTIVE, Stream.DP_GATHER)
            for index in range(counts.gathers)
        ],
    )


def reduction_ops(inputs: LayoutInputs, slots: Slots) -> BucketOps:
    """Return the ops that reduce the gradients of each bucket.

    FSDP runs its reduce-scatters on the communicator of its gathers (arXiv:2304.11277, section 3.3.2), and
    some stacks copy gradients into one buffer first.
    """
    stream = Stream.DP_REDUCE if inputs.fsdp is None else Stream.DP_GATHER
    copies = () if inputs.fsdp is None else inputs.fsdp.copies_out

    def ops(bucket: int, counts: BucketCounts) -> list[BucketOp]:
        collectives = [
            (slots.of_collective(bucket, kind, index), OpKind.COLLECTIVE, queue)
            for kind, count, queue in (
                (_REDUCES, counts.reduces, stream),
                (_SUMS, counts.sums, Stream.DP_REDUCE),
            )
            for index in range(count)
        ]
        if not collectives:
            return []
        return [(slots.of_copy(bucket, copy), OpKind.KERNEL, Stream.COMPUTE) for copy in copies] + collectives

    return BucketOps.of(inputs, ops)


def has_any(inputs: LayoutInputs, counts: Callable[[BucketCounts], int]) -> Bools:
    """Tell for each stage whether some of its buckets have a kind of collective."""
    any_of_list = np.array([any(map(counts, buckets)) for buckets in inputs.bucket_lists()], dtype=np.bool_)
    any_of_stage: Bools = any_of_list[inputs.list_of_stage()]
    return any_of_stage


def num_buckets(inputs: LayoutInputs) -> Ints:
    """Return the number of buckets of each stage."""
    count: Ints = np.array([len(buckets) for buckets in inputs.bucket_lists()])[inputs.list_of_stage()]
    return count


def reducing_passes(inputs: LayoutInputs, passes: PassTable) -> Ints:
    """Return the passes after which gradients are reduced, rather than summed up with those of later ones."""
    if not inputs.reduces_every_microbatch:
        return passes.last_backward()
    return np.flatnonzero(is_one_of(passes.kind, MAKES_GRADIENTS))


def bucketed_passes(inputs: LayoutInputs, passes: PassTable) -> Ints:
    """Return into how many buckets each pass is cut where ranks hold whole weights; 0: it runs whole.

    Cut are a stage's first forward pass, which can start when its first bucket is gathered, and the passes
    whose gradients are reduced while they run.
    """
    buckets = np.zeros(len(passes), dtype=np.int64)
    count = num_buckets(inputs)
    if inputs.overlaps_param_gather:
        first = passes.first_forward()
        stage = passes.stage[first]
        buckets[first] = count[stage] * has_any(inputs, lambda counts: counts.gathers)[stage]
    if inputs.overlaps_grad_reduce:
        reducing = reducing_passes(inputs, passes)
        stage = passes.stage[reducing]
        buckets[reducing] = count[stage] * has_any(inputs, lambda counts: counts.reduces + counts.sums)[stage]
    return buckets


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reductions:
    """What reduces gradients, in the order in which it is issued.

    Attributes:
        ops: The ops, after the groups of segments that complete the gradients.
        follows_previous: [op] Whether each waits for the one before it, or for the group.
    """

    ops: AttachedOps
    follows_previous: Bools


def reductions(inputs: LayoutInputs, segments: Segments, slots: Slots) -> Reductions:
    """Return what reduces the gradients of a step.

    With overlap, and with FSDP, the gradients of a bucket are reduced after the segment that completes them.
    Without, those of the whole stage are after its pass, or those of all stages after the rank's last pass.
    """
    passes, bucket_ops = segments.passes, reduction_ops(inputs, slots)
    if inputs.overlaps_grad_reduce or inputs.fsdp is not None:
        reduces = np.zeros(len(passes), dtype=np.bool_)
        reduces[reducing_passes(inputs, passes)] = True
        segment = np.flatnonzero(reduces[segments.pass_] & (segments.bucket >= 0))
        bucket = segments.bucket[segment]
        holding = passes.holding[segments.pass_[segment]]
    elif inputs.reduces_every_microbatch:
        reducing = reducing_passes(inputs, passes)
        segment, bucket = _backwards(
            num_buckets(inputs)[passes.stage[reducing]], segments.cut_start[reducing]
        )
        holding = passes.holding[segments.pass_[segment]]
    else:
        last = segments.pass_end[passes.rank_start[1:] - 1]
        by_rank = np.array(
            sorted(range(len(passes.holdings)), key=lambda index: (passes.holdings[index].rank, -index)),
            dtype=np.int64,
        )
        stage = np.array([passes.holdings[index].stage for index in by_rank])
        rank = np.array([passes.holdings[index].rank for index in by_rank])
        count = num_buckets(inputs)[stage]
        segment, bucket = _backwards(count, last[rank])
        holding = np.repeat(by_rank, count)
    stage = np.array([held.stage for held in passes.holdings])[holding]
    of_bucket, op = bucket_ops.expand(stage, bucket)
    is_first = np.diff(of_bucket, prepend=-1) > 0
    microbatch = -1 if inputs.fsdp is None else passes.microbatch[segments.pass_[segment[of_bucket]]]
    ops = AttachedOps.of(
        bucket_ops,
        op,
        group=segments.group[segment[of_bucket]],
        first_slot=holding[of_bucket] * slots.per_holding,
        stage=stage[of_bucket],
        microbatch=np.where(bucket_ops.kind[op] == OpKind.KERNEL, -1, microbatch),
    )
    return Reductions(
        ops=ops,
        follows_previous=np.zeros(len(ops), dtype=np.bool_) if inputs.fsdp is None else ~is_first,
    )


def _backwards(count: Ints, segment: Ints) -> tuple[Ints, Ints]:
    """Return each of some segments as often as it has buckets, and the buckets, the last one first."""
    bucket = np.repeat(count - 1, count) - ranges(np.zeros(len(count), dtype=np.int64), count)
    return np.repeat(segment, count), bucket


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InitialGathers:
    """Gathers of the weights that the optimizer of the step before updated, first stages first.

    Attributes:
        ops: The ops, before all segments.
        rank: [op] Pipeline rank.
        waiting: [edge] Segment that waits for a gather: bucket by bucket in the first forward pass, or
            without overlap the rank's first pass for its last gather.
        awaited: [edge] That gather.
    """

    ops: AttachedOps
    rank: Ints
    waiting: Ints
    awaited: Ints


def initial_gathers(inputs: LayoutInputs, segments: Segments, slots: Slots) -> InitialGathers:
    """Return the gathers with which a step begins where ranks hold whole weights."""
    passes, bucket_ops = segments.passes, gather_ops(inputs, slots)
    stage, rank = np.array(passes.holdings, dtype=np.int64).reshape(-1, 2).T
    count = num_buckets(inputs)[stage]
    holding = np.repeat(np.arange(len(stage)), count)
    bucket = ranges(np.zeros(len(stage), dtype=np.int64), count)
    of_bucket, op = bucket_ops.expand(stage[holding], bucket)
    of_holding = holding[of_bucket]
    ops = AttachedOps.of(
        bucket_ops,
        op,
        group=np.zeros(len(op), dtype=np.int64),
        first_slot=of_holding * slots.per_holding,
        stage=stage[of_holding],
    )
    if inputs.overlaps_param_gather:
        first = np.full(len(stage), -1)
        first[passes.holding[passes.first_forward()]] = passes.first_forward()
        waiting, awaited = segments.cut_start[first[of_holding]] + bucket[of_bucket], np.arange(len(ops))
    else:
        last = np.full(passes.ranks, -1)
        last[rank[of_holding]] = np.arange(len(ops))  # of several the last one stays
        ranks = np.flatnonzero(last >= 0)
        waiting, awaited = segments.pass_start[passes.rank_start[ranks]], last[ranks]
    return InitialGathers(ops=ops, rank=rank[of_holding], waiting=waiting, awaited=awaited)
