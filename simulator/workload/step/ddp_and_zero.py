"""Whole weights on every rank: plain data parallelism, ZeRO-1 and ZeRO-2.

Gradients are reduced in buckets of layers, the last layers first, and where the optimizer's state is sharded
the updated weights are gathered in the same buckets at the beginning of the next step (PyTorch DDP,
arXiv:2006.15704; ZeRO, arXiv:1910.02054; Megatron-Core's distributed optimizer).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from simulator.workload.parameters.model_states import ModelStates
from simulator.workload.program import OpKind, Ops, Stream
from simulator.workload.step.data_parallel import Bucket, DataParallel, Segment, buckets_of
from simulator.workload.step.pieces import Pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.schedules import Action
    from simulator.workload.layers.layer_work import LayerWork
    from simulator.workload.program import Ints
    from simulator.workload.step.pieces import Part
    from simulator.workload.work import Collective


@dataclass(slots=True, kw_only=True)
class Bucketed(DataParallel):
    """Gathers weights once per step and reduces gradients in buckets.

    Attributes:
        buckets: Buckets of each stage.
        gathered: Ops that gather a bucket's weights, by rank, stage and bucket.
        last_gather: The last of them, by rank.
        pending: Reductions that the next pass of a rank must wait for: those that are not overlapped.
        cuts: Segments of a pass, by its kind and stage and whether it is one of the rank's edges.
        edge_parts: Buckets and reductions of an edge pass, by its kind and the first stage like its own.
    """

    buckets: list[list[Bucket]] = field(init=False)
    gathered: dict[tuple[int, int, int], tuple[int, ...]] = field(default_factory=dict)
    last_gather: dict[int, tuple[int, ...]] = field(default_factory=dict)
    pending: dict[int, tuple[int, ...]] = field(default_factory=dict)
    cuts: dict[tuple[OpKind, int, bool], list[Segment]] = field(default_factory=dict)
    edge_parts: dict[tuple[OpKind, int], list[tuple[int, list[Collective]]]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Gather the weights that the optimizer of the step before updated, first stages first."""
        given = self.parts
        self.buckets = given or buckets_of(ModelStates.of(self.scenario), self.stages)
        holders = sorted((stage, rank) for rank in range(len(self.order)) for stage in self.held_stages(rank))
        works: list[Collective] = []
        places: list[tuple[int, int]] = []
        for stage, rank in holders:
            for number, bucket in enumerate(self.buckets[stage]):
                first = self.builder.num_ops + len(works)
                ops = tuple(range(first, first + len(bucket.gathers)))
                self.gathered[rank, stage, number] = ops
                self.last_gather[rank] = ops[-1:] or self.last_gather.get(rank, ())
                works += bucket.gathers
                places += [(rank, stage)] * len(bucket.gathers)
        if works:
            ranks, stages = np.array(places).T
            none = np.full(len(works), -1)
            self.builder.add_many(
                Ops(
                    kind=np.full(len(works), OpKind.COLLECTIVE),
                    rank=ranks,
                    stream=np.full(len(works), Stream.DP_GATHER),
                    work=self.builder.number_works(works),
                    microbatch=none,
                    stage=stages,
                    join=none,
                    allocated_bytes=np.zeros(len(works)),
                    freed_bytes=np.zeros(len(works)),
                )
            )

    def pieces(self) -> Pieces | None:
        """Cut the passes that wait for weights or send gradients off; the others run whole.

        With gradients reduced after every micro-batch, any pass may have to wait for a reduction.
        """
        if self.scenario.parallelism.reduce_every_microbatch:
            return None
        edges = self.passes.taken(self.edge_places)
        cut = {
            place: self._parts(rank, action)
            for place, rank, action in zip(
                self.edge_places.tolist(), self._ranks(self.edge_places), edges, strict=True
            )
        }
        if not self.scenario.training.overlap.grad_reduce:
            for rank, last in enumerate((self.first[1:] - 1).tolist()):
                *others, (number, _, _) = cut.get(last, [(-1, (), ())])
                cut[last] = [*others, (number, *self._every_reduction(rank))]
        return Pieces.of(len(self.passes), dict(sorted(cut.items())))

    def bucket_works(self, stage: int, number: int) -> tuple[LayerWork, ...]:
        """Return the layers of a bucket."""
        return self.buckets[stage][number].works

    def _ranks(self, places: Ints) -> list[int]:
        """Return the ranks of passes by their places."""
        ranks: list[int] = (np.searchsorted(self.first, places, side="right") - 1).tolist()
        return ranks

    def _parts(self, rank: int, action: Action) -> list[Part]:
        """Return the parts of an edge pass; those of stages that are alike are found once."""
        key = action.kind, int(self.alike[action.stage])
        if key not in self.edge_parts:
            self.edge_parts[key] = [
                (segment.number, [work for bucket in segment.reduces for work in _reductions(bucket)])
                for segment in self.segments(rank, action)
            ]
        return [(number, works, (action.stage,) * len(works)) for number, works in self.edge_parts[key]]

    def _every_reduction(self, rank: int) -> tuple[list[Collective], list[int]]:
        """Return the reductions of all buckets of a rank, the last stage first, and their stages."""
        works: list[Collective] = []
        stages: list[int] = []
        for stage in reversed(self.held_stages(rank)):
            works += [work for bucket in self.buckets[stage][::-1] for work in _reductions(bucket)]
            stages += [stage] * (len(works) - len(stages))
        return works, stages

    def waits(self, pieces: Pieces) -> Ints:
        """Let a first pass wait for its weights: bucket by bucket, or without overlap for all of them."""
        starts = self.first[:-1]
        overlaps = self.scenario.training.overlap.param_gather
        if overlaps:
            starts = self.edge_places[self.passes.kind[self.edge_places] == OpKind.FORWARD]
        stages = self.passes.stage[starts].tolist()
        waits: list[tuple[int, int]] = []
        for part, rank, stage in zip(
            pieces.first_part[starts].tolist(), self._ranks(starts), stages, strict=True
        ):
            if overlaps:
                numbers = range(len(self.buckets[stage]))
                waits += [(part + n, op) for n in numbers for op in self.gathered[rank, stage, n]]
            else:
                waits += [(part, op) for op in self.last_gather.get(rank, ())]
        return np.array(waits, dtype=np.int64).reshape(-1, 2).T

    def segments(self, rank: int, action: Action) -> Sequence[Segment]:
        """Cut a stage's first forward pass, and passes whose gradients are sent off, into buckets."""
        key = (action.kind, action.stage, self.is_edge(rank, action))
        if key not in self.cuts:
            self.cuts[key] = self._cut(rank, action)
        return self.cuts[key]

    def _cut(self, rank: int, action: Action) -> list[Segment]:
        overlap = self.scenario.training.overlap
        numbered = list(enumerate(self.buckets[action.stage]))
        whole = Segment(works=self.stages[action.stage].works)
        if action.kind is OpKind.FORWARD:
            gathers = any(bucket.gathers for _, bucket in numbered)
            if gathers and overlap.param_gather and self.is_edge(rank, action):
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
            return waits + self.last_gather.get(rank, ()) if action == self.order[rank][0] else waits
        if segment.number < 0:
            return waits
        return waits + self.gathered[rank, action.stage, segment.number]

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
            for each in _reductions(bucket)
        ]
        self.reduced[rank] += ops
        return ops


def _reductions(bucket: Bucket) -> tuple[Collective, ...]:
    """Return the collectives that sum up the gradients of a bucket."""
    return (*bucket.reduces, *bucket.sums)
