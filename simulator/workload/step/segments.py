"""Compute ops of every pipeline rank in order: passes, cut into segments where collectives hook in.

A segment is one compute op: a whole pass, or the part of a pass over one gradient bucket (or FSDP unit). A
forward and a backward pass that run together (DualPipe) do so segment by segment: two segments form a group,
one op behind the other, which start together and share the time of both. Every other segment is a group by
itself.

One rank of 1F1B with two micro-batches, whose first forward and last backward pass are cut into two buckets:

    pass          0         1     2     3
    kind          F         F     B     B
    microbatch    0         1     0     1
    segment       0    1    2     3     4    5
    pass          0    0    1     2     3    3
    bucket        0    1   -1    -1     1    0        backward passes run the last bucket first
    group         0    1    2     3     4    5

Two passes of three and two buckets that run together, F before B:

    segment       F 0  B 1  F 1  B 0  F 2
    group         0    0    1    1    2
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from simulator.ragged import distinct, ranges
from simulator.schedules import Overlapped
from simulator.schedules.columns import Passes
from simulator.schedules.op_kind import OpKind
from simulator.workload.step.slots import Holding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.schedules import Entry, Order, StageTimes
    from simulator.workload.pipeline import Pipeline
    from simulator.workload.program import Bools, Ints

MAKES_GRADIENTS = (OpKind.BACKWARD, OpKind.BACKWARD_WEIGHT)
"""Passes after which a micro-batch's weight gradients are complete."""
NEEDS_WEIGHTS = (OpKind.FORWARD, OpKind.BACKWARD, OpKind.BACKWARD_INPUT)
"""Passes that multiply by weights."""


def is_one_of(kinds: Ints, wanted: Sequence[OpKind]) -> Bools:
    """Tell which ops are of some kinds.

    >>> is_one_of(np.array([0, 1, 2, 3]), MAKES_GRADIENTS).tolist()
    [False, True, False, True]
    """
    chosen: Bools = np.logical_or.reduce([kinds == kind for kind in wanted])
    return chosen


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PassTable:
    """All passes of a step, rank by rank, in the order in which each rank runs them.

    Passes S and T of a divided output layer are among them, with stage and holding -1.

    Attributes:
        kind: [pass] ``OpKind``.
        stage: [pass] Global pipeline stage.
        microbatch: [pass] Micro-batch.
        rank: [pass] Pipeline rank.
        entry: [pass] Index of its entry in the schedule: two passes that run together share one.
        holding: [pass] Index into ``holdings``.
        rank_start: [rank + 1] First pass of each rank.
        holdings: The stages that ranks hold, by stage and rank.
    """

    kind: Ints
    stage: Ints
    microbatch: Ints
    rank: Ints
    entry: Ints
    holding: Ints
    rank_start: Ints
    holdings: tuple[Holding, ...]

    @classmethod
    def of(cls, order: Order) -> PassTable:
        """Read a schedule's order."""
        ranks = [_flat(entries) for entries in order]
        kind, stage, microbatch, entry = (np.concatenate(column) for column in zip(*ranks, strict=True))
        lengths = np.array([len(rank[0]) for rank in ranks])
        rank = np.repeat(np.arange(len(ranks)), lengths)
        entry += np.repeat(np.cumsum([0, *(1 + _last(columns[3]) for columns in ranks[:-1])]), lengths)
        holding = np.full(len(stage), -1)
        through_stage = np.flatnonzero(stage >= 0)
        # A stage on a rank as one integer: in order of stage, then of rank.
        codes, holding[through_stage] = distinct((stage * len(ranks) + rank)[through_stage])
        return cls(
            kind=kind,
            stage=stage,
            microbatch=microbatch,
            rank=rank,
            entry=entry,
            holding=holding,
            rank_start=np.concatenate(([0], np.cumsum(lengths))),
            holdings=tuple(Holding(*divmod(code, len(ranks))) for code in codes.tolist()),
        )

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def ranks(self) -> int:
        """Pipeline ranks."""
        return len(self.rank_start) - 1

    def held(self) -> tuple[tuple[int, ...], ...]:
        """Return the stages of each rank, in model order."""
        stages: list[list[int]] = [[] for _ in range(self.ranks)]
        for stage, rank in self.holdings:
            stages[rank].append(stage)
        return tuple(map(tuple, stages))

    def first_forward(self) -> Ints:
        """Return the first forward pass of each holding."""
        return self._edge(np.flatnonzero(self.kind == OpKind.FORWARD)[::-1])

    def last_backward(self) -> Ints:
        """Return the last pass of each holding that makes gradients."""
        return self._edge(np.flatnonzero(is_one_of(self.kind, MAKES_GRADIENTS)))

    def _edge(self, passes: Ints) -> Ints:
        edge = np.full(len(self.holdings), -1)
        edge[self.holding[passes]] = passes  # of several the last one stays
        return edge[edge >= 0]


@lru_cache(maxsize=64)
def pass_table(pipeline: Pipeline, times: StageTimes | None = None) -> PassTable:
    """Return all passes of a pipeline; kept, for layouts of one pipeline differ in what runs beside them."""
    return PassTable.of(pipeline.order(times))


def _flat(entries: Sequence[Entry]) -> tuple[Ints, Ints, Ints, Ints]:
    """Return kind, stage, micro-batch and entry of a rank's passes."""
    if isinstance(entries, Passes):
        return entries.kind, entries.stage, entries.microbatch, np.arange(len(entries))
    rows = [
        (action.kind, -1 if action.kind > OpKind.BACKWARD_WEIGHT else action.stage, action.microbatch, index)
        for index, entry in enumerate(entries)
        for action in (entry if isinstance(entry, Overlapped) else (entry,))
    ]
    kind, stage, microbatch, entry = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    return kind, stage, microbatch, entry


def _last(entry: Ints) -> int:
    return int(entry[-1]) if len(entry) else -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segments:
    """The compute ops of a step, rank by rank, in the order in which each rank runs them.

    Attributes:
        passes: The passes that they are cut from.
        pass_: [segment] Its pass.
        bucket: [segment] Its gradient bucket, or -1 for a whole pass.
        group: [segment] Its group.
        group_start: [group + 1] First segment of each group.
        pass_start: [pass] First segment of its entry: what a pass needs, its whole group waits for.
        pass_end: [pass] Last segment of its entry: what follows a pass follows its whole group.
        cut_start: [pass] First of its own segments.
    """

    passes: PassTable
    pass_: Ints
    bucket: Ints
    group: Ints
    group_start: Ints
    pass_start: Ints
    pass_end: Ints
    cut_start: Ints

    @classmethod
    def of(cls, passes: PassTable, buckets: Ints) -> Segments:
        """Cut passes.

        Args:
            passes: All passes.
            buckets: [pass] Into how many buckets each is cut; 0 for passes that run whole.
        """
        count = np.maximum(buckets, 1)
        entries = 1 + _last(passes.entry)
        segments_of_entry = np.bincount(passes.entry, count, entries).astype(np.int64)
        groups_of_entry = np.zeros(entries, dtype=np.int64)
        np.maximum.at(groups_of_entry, passes.entry, count)
        first_segment = np.cumsum(segments_of_entry) - segments_of_entry
        first_group = np.cumsum(groups_of_entry) - groups_of_entry
        # Segments of a lone pass lie one behind the other. Of two passes that run together, the k-th segment
        # of the first has as many of the second before it as there are among the first k; one more the other
        # way.
        is_second = np.diff(passes.entry, prepend=-1) == 0
        of_other = segments_of_entry[passes.entry] - count  # [pass] segments of the pass that runs with it
        of_pass = np.repeat(np.arange(len(passes)), count)  # [segment, pass by pass]
        k = ranges(np.zeros(len(passes), dtype=np.int64), count)  # [segment of its pass] 0, 1, ...
        index = (
            first_segment[passes.entry[of_pass]] + k + np.minimum(k + is_second[of_pass], of_other[of_pass])
        )
        backwards = passes.kind != OpKind.FORWARD
        bucket = np.where(backwards[of_pass], count[of_pass] - 1 - k, k)
        bucket[buckets[of_pass] == 0] = -1
        pass_, bucket_, group = np.empty((3, len(of_pass)), dtype=np.int64)
        pass_[index], bucket_[index], group[index] = of_pass, bucket, first_group[passes.entry[of_pass]] + k
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        return cls(
            passes=passes,
            pass_=pass_,
            bucket=bucket_,
            group=group,
            group_start=np.append(starts, len(group)),
            pass_start=first_segment[passes.entry],
            pass_end=(first_segment + segments_of_entry - 1)[passes.entry],
            cut_start=index[np.cumsum(count) - count],
        )

    def __len__(self) -> int:
        return len(self.pass_)

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self.group_start) - 1

    @property
    def rank(self) -> Ints:
        """[segment] Pipeline rank."""
        rank: Ints = self.passes.rank[self.pass_]
        return rank

    def last_of_group(self, segments: Ints) -> Ints:
        """Return the last segment of the groups of some segments."""
        last: Ints = self.group_start[self.group[segments] + 1] - 1
        return last
