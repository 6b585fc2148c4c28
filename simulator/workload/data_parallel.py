"""Data parallelism beside the pipeline: which passes wait for weights, and which send gradients off.

A strategy cuts a pass into segments where its collectives hook in. With overlap, a stage's first forward pass
waits for its weights bucket by bucket, and its last backward pass sends off gradients bucket by bucket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.workload.gradients import Bucket, buckets_of
from simulator.workload.program import OpKind, ProgramBuilder, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.scenario import Scenario
    from simulator.workload.schedules import Action
    from simulator.workload.stages import LayerWork, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a pass that runs as one op.

    Attributes:
        works: Its layers, in model order.
        number: Its bucket, -1 for a whole pass.
        after: Ops that it waits for besides the op before it.
        reduces: Bucket whose gradients are complete when it ends, or None.
    """

    works: tuple[LayerWork, ...]
    number: int = -1
    after: tuple[int, ...] = ()
    reduces: Bucket | None = None


@dataclass(slots=True, kw_only=True)
class DataParallel:
    """Appends gathers and reductions of one step.

    Attributes:
        scenario: The request.
        stages: Its pipeline stages.
        builder: Where ops are appended.
        owners: Rank of each stage.
        buckets: Buckets of each stage.
        gathered: Ops that gather a bucket's weights, by stage and bucket.
        reduced: Ops that reduce gradients, by rank.
    """

    scenario: Scenario
    stages: tuple[Stage, ...]
    builder: ProgramBuilder
    owners: Mapping[int, int]
    buckets: list[list[Bucket]] = field(init=False)
    gathered: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    reduced: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.buckets = [buckets_of(self.scenario, stage) for stage in self.stages]
        self.reduced = {rank: [] for rank in self.owners.values()}

    def gather_parameters(self) -> None:
        """Gather the weights that the optimizer of the step before updated, first stages first."""
        for stage, buckets in enumerate(self.buckets):
            for number, bucket in enumerate(buckets):
                self.gathered[stage, number] = tuple(
                    self.builder.add(
                        OpKind.COLLECTIVE, self.owners[stage], Stream.DP_GATHER, collective, stage=stage
                    )
                    for collective in bucket.gathers
                )

    def segments(self, rank: int, action: Action, *, is_first: bool, is_edge: bool) -> Sequence[Segment]:
        """Cut a pass into the parts that run as one op each, in the order in which they run.

        Args:
            rank: Rank that runs it.
            action: The pass.
            is_first: Whether it is the first of its rank.
            is_edge: Whether it is the first forward or the last backward pass of its stage.
        """
        overlap = self.scenario.training.overlap
        is_forward = action.kind is OpKind.FORWARD
        whole = self.stages[action.stage].works
        if is_first and not overlap.param_gather:
            return [Segment(works=whole, after=self._last_gather(rank))]
        if not is_edge or not (overlap.param_gather if is_forward else overlap.grad_reduce):
            return [Segment(works=whole)]
        numbered = list(enumerate(self.buckets[action.stage]))
        if is_forward and any(bucket.gathers for _, bucket in numbered):
            return [
                Segment(works=bucket.works, number=number, after=self.gathered[action.stage, number])
                for number, bucket in numbered
            ]
        if not is_forward and any(bucket.reduces for _, bucket in numbered):
            return [
                Segment(works=bucket.works, number=number, reduces=bucket)
                for number, bucket in reversed(numbered)
            ]
        return [Segment(works=whole)]

    def _last_gather(self, rank: int) -> tuple[int, ...]:
        mine = [op for (stage, _), ops in self.gathered.items() if self.owners[stage] == rank for op in ops]
        return tuple(mine[-1:])

    def reduce(self, rank: int, stage: int, bucket: Bucket, after: int) -> None:
        """Send a bucket's gradients off once op ``after`` has made them."""
        for collective in bucket.reduces:
            op = self.builder.add(
                OpKind.COLLECTIVE, rank, Stream.DP_REDUCE, collective, after=(after,), stage=stage
            )
            self.reduced[rank].append(op)

    def finish(self, rank: int, last: int) -> None:
        """Reduce all gradients of a rank after its last pass, unless that was overlapped."""
        if self.scenario.training.overlap.grad_reduce:
            return
        for stage in reversed(range(len(self.stages))):
            if self.owners[stage] == rank:
                for bucket in reversed(self.buckets[stage]):
                    self.reduce(rank, stage, bucket, last)
