"""Whole weights on every rank: plain data parallelism, ZeRO-1 and ZeRO-2.

Gradients are reduced in buckets of layers, the last layers first, and where the optimizer's state is sharded
the updated weights are gathered in the same buckets at the beginning of the next step (PyTorch DDP,
arXiv:2006.15704; ZeRO, arXiv:1910.02054; Megatron-Core's distributed optimizer).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from simulator.workload.data_parallel import DataParallel, Segment
from simulator.workload.gradients import Bucket, buckets_of
from simulator.workload.program import OpKind, Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.workload.program import Bools
    from simulator.workload.schedules import Action


@dataclass(slots=True, kw_only=True)
class Bucketed(DataParallel):
    """Gathers weights once per step and reduces gradients in buckets.

    Attributes:
        buckets: Buckets of each stage.
        gathered: Ops that gather a bucket's weights, by rank, stage and bucket.
        pending: Reductions that the next pass of a rank must wait for: those that are not overlapped.
        cuts: Segments of a pass, by its kind and stage and whether it is one of the rank's edges.
    """

    buckets: list[list[Bucket]] = field(init=False)
    gathered: dict[tuple[int, int, int], tuple[int, ...]] = field(default_factory=dict)
    pending: dict[int, tuple[int, ...]] = field(default_factory=dict)
    cuts: dict[tuple[OpKind, int, bool], list[Segment]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Gather the weights that the optimizer of the step before updated, first stages first."""
        given = self.parts
        self.buckets = given or [buckets_of(self.scenario, stage) for stage in self.stages]
        holders = ((stage, rank) for rank in range(len(self.order)) for stage in self.held_stages(rank))
        for stage, rank in sorted(holders):
            for number, bucket in enumerate(self.buckets[stage]):
                self.gathered[rank, stage, number] = tuple(
                    self.builder.add(OpKind.COLLECTIVE, rank, Stream.DP_GATHER, collective, stage=stage)
                    for collective in bucket.gathers
                )

    def untouched(self, rank: int) -> Bools:
        """Tell that only a rank's first pass and a stage's first and last one gather or reduce.

        With gradients reduced after every micro-batch, any pass may have to wait for a reduction.
        """
        passes = self.order[rank]
        whole = np.full(len(passes), not self.scenario.parallelism.reduce_every_microbatch)
        whole[[0, *self.edge_places[rank]]] = False
        return whole

    def segments(self, rank: int, action: Action) -> Sequence[Segment]:
        """Cut a stage's first forward pass, and passes whose gradients are sent off, into buckets."""
        key = (action.kind, action.stage, action in self.edges[rank])
        if key not in self.cuts:
            self.cuts[key] = self._cut(rank, action)
        return self.cuts[key]

    def _cut(self, rank: int, action: Action) -> list[Segment]:
        overlap = self.scenario.training.overlap
        numbered = list(enumerate(self.buckets[action.stage]))
        whole = Segment(works=self.stages[action.stage].works)
        if action.kind is OpKind.FORWARD:
            gathers = any(bucket.gathers for _, bucket in numbered)
            if gathers and overlap.param_gather and action in self.edges[rank]:
                return [Segment(works=bucket.works, number=number) for number, bucket in numbered]
        elif self.sends_gradients(rank, action) and any(
            bucket.reduces or bucket.sums for _, bucket in numbered
        ):
            backwards = numbered[::-1]
            if overlap.grad_reduce:
                return [Segment(works=b.works, number=number, reduces=(b,)) for number, b in backwards]
            if self.scenario.parallelism.reduce_every_microbatch:
                return [Segment(works=whole.works, reduces=tuple(b for _, b in backwards))]
        return [whole]

    def before(self, rank: int, action: Action, segment: Segment) -> tuple[int, ...]:
        """Return the gathers of the bucket's weights, and reductions that are not overlapped."""
        waits = self.pending.pop(rank, ())
        if action.kind is not OpKind.FORWARD:
            return waits
        if not self.scenario.training.overlap.param_gather:
            return waits + self._last_gather(rank) if action == self.order[rank][0] else waits
        if segment.number < 0:
            return waits
        return waits + self.gathered[rank, action.stage, segment.number]

    def _last_gather(self, rank: int) -> tuple[int, ...]:
        mine = [op for (holder, _, _), ops in self.gathered.items() if holder == rank for op in ops]
        return tuple(mine[-1:])

    def after(self, rank: int, action: Action, segment: Segment, op: int) -> None:
        """Send off the gradients that the segment completed."""
        ops = [each for bucket in segment.reduces for each in self._reduce(rank, action.stage, bucket, op)]
        if not self.scenario.training.overlap.grad_reduce:
            self.pending[rank] = tuple(ops[-1:])

    def finish(self, rank: int, last: int) -> None:
        """Reduce all gradients of a rank after its last pass, unless that has been done."""
        every = self.scenario.parallelism.reduce_every_microbatch
        if every or self.scenario.training.overlap.grad_reduce:
            return
        for stage in reversed(self.held_stages(rank)):
            for bucket in reversed(self.buckets[stage]):
                self._reduce(rank, stage, bucket, last)

    def _reduce(self, rank: int, stage: int, bucket: Bucket, after: int) -> list[int]:
        ops = [
            self.builder.add(OpKind.COLLECTIVE, rank, Stream.DP_REDUCE, each, after=(after,), stage=stage)
            for each in (*bucket.reduces, *bucket.sums)
        ]
        self.reduced[rank] += ops
        return ops
