"""From a scenario to the Program of one training step.

One data-parallel replica stands for all: ranks of the program are pipeline ranks. A step begins where all
ranks left the optimizer of the step before, so gathering parameters comes first and the optimizer last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from simulator.workload.gradients import Bucket, buckets_of
from simulator.workload.grid import rank_of_stage, stride
from simulator.workload.program import OpKind, Program, ProgramBuilder, Stream
from simulator.workload.schedules import SCHEDULES, Action
from simulator.workload.shapes import shapes_of
from simulator.workload.stages import LayerWork, Stage, stages_of
from simulator.workload.step_end import append_step_end
from simulator.workload.work import Sequence as Blocks
from simulator.workload.work import Transfer

if TYPE_CHECKING:
    from simulator.scenario import Scenario

Actions = Sequence[Sequence[Action]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One training step.

    Attributes:
        program: Its ops.
        stages: The pipeline stages that its ops run.
    """

    program: Program
    stages: tuple[Stage, ...]


def build_step(scenario: Scenario) -> Step:
    """Lay out one training step of a scenario."""
    parallelism = scenario.parallelism
    actions = SCHEDULES[parallelism.schedule](parallelism.pp, parallelism.vpp, scenario.num_microbatches)
    stages = stages_of(scenario)
    writer = _Writer(scenario=scenario, stages=stages)
    writer.gather_parameters()
    for rank, mine in enumerate(actions):
        writer.run(rank, mine)
    writer.transfer(actions)
    append_step_end(scenario, stages, writer.builder, writer.last_compute, writer.reduced)
    return Step(program=writer.builder.build(), stages=stages)


def message_bytes(scenario: Scenario) -> float:
    """Return what one rank sends to the next pipeline stage for each micro-batch.

    With tensor parallelism every rank sends its part and the receivers gather it over their fast links
    (Narayanan et al., arXiv:2104.04473, section 4.1); with sequence parallelism that part is all it has.
    """
    shapes = shapes_of(scenario)
    return shapes.tokens / shapes.tp.size * scenario.model.hidden_size * shapes.element_bytes


@dataclass(slots=True, kw_only=True)
class _Writer:
    """Appends the ops of a step and keeps what later ops refer to.

    Attributes:
        buckets: Buckets of each stage.
        last_compute: Last op of each rank's compute stream, -1 before the first.
        gathered: Ops that gather a stage's bucket, by stage and bucket.
        reduced: Ops that reduce gradients, by rank.
        ends: First and last op of each action.
        sequences: Work of a pass over a stage, or over one of its buckets.
    """

    scenario: Scenario
    stages: tuple[Stage, ...]
    builder: ProgramBuilder = field(init=False)
    buckets: list[list[Bucket]] = field(init=False)
    last_compute: list[int] = field(init=False)
    reduced: list[list[int]] = field(init=False)
    gathered: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    ends: dict[Action, tuple[int, int]] = field(default_factory=dict)
    sequences: dict[tuple[OpKind, int, int], Blocks] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parallelism = self.scenario.parallelism
        names = tuple(f"pp {rank}" for rank in range(parallelism.pp))
        self.builder = ProgramBuilder(rank_names=names, replicas=parallelism.gpus // parallelism.pp)
        self.buckets = [buckets_of(self.scenario, stage) for stage in self.stages]
        self.last_compute = [-1] * parallelism.pp
        self.reduced = [[] for _ in names]

    def gather_parameters(self) -> None:
        """Gather the weights that the optimizer of the step before updated, first stages first."""
        for stage, buckets in enumerate(self.buckets):
            rank = rank_of_stage(self.scenario.parallelism, stage)
            for number, bucket in enumerate(buckets):
                self.gathered[stage, number] = [
                    self.builder.add(OpKind.COLLECTIVE, rank, Stream.DP_GATHER, collective, stage=stage)
                    for collective in bucket.gathers
                ]

    def run(self, rank: int, actions: Sequence[Action]) -> None:
        """Append a rank's passes; the first forward and the last backward of a stage go bucket by bucket."""
        overlap = self.scenario.training.overlap
        gathers = [op for (stage, _), ops in self.gathered.items() if self._is_on(stage, rank) for op in ops]
        self.last_compute[rank] = -1
        waits = [] if overlap.param_gather else gathers[-1:]
        edges = _edges(actions)
        for action in actions:
            is_forward = action.kind is OpKind.FORWARD
            by_bucket = overlap.param_gather if is_forward else overlap.grad_reduce
            if by_bucket and action in edges and self._communicates(action):
                self._by_bucket(rank, action)
            else:
                self._whole(rank, action, waits)
            waits = []
        if not overlap.grad_reduce:
            self._reduce_at_end(rank)

    def _communicates(self, action: Action) -> bool:
        buckets = self.buckets[action.stage]
        is_forward = action.kind is OpKind.FORWARD
        return any(bucket.gathers if is_forward else bucket.reduces for bucket in buckets)

    def _is_on(self, stage: int, rank: int) -> bool:
        return rank_of_stage(self.scenario.parallelism, stage) == rank

    def _whole(self, rank: int, action: Action, after: list[int]) -> None:
        works = self.stages[action.stage].works
        op = self._compute(rank, action, -1, works, after)
        self.ends[action] = (op, op)

    def _by_bucket(self, rank: int, action: Action) -> None:
        is_forward = action.kind is OpKind.FORWARD
        numbered = list(enumerate(self.buckets[action.stage]))
        ops = []
        for number, bucket in numbered if is_forward else reversed(numbered):
            after = self.gathered[action.stage, number] if is_forward else []
            ops.append(self._compute(rank, action, number, bucket.works, after))
            if not is_forward:
                self._reduce(rank, bucket, action.stage, ops[-1])
        self.ends[action] = (ops[0], ops[-1])

    def _compute(
        self, rank: int, action: Action, number: int, works: tuple[LayerWork, ...], after: Sequence[int]
    ) -> int:
        size = sum(work.saved_bytes for work in works)
        is_forward = action.kind is OpKind.FORWARD
        self.last_compute[rank] = self.builder.add(
            action.kind,
            rank,
            Stream.COMPUTE,
            self._sequence(action, number, works),
            after=after,
            microbatch=action.microbatch,
            stage=action.stage,
            allocated_bytes=size if is_forward else 0.0,
            freed_bytes=0.0 if is_forward else size,
        )
        return self.last_compute[rank]

    def _sequence(self, action: Action, number: int, works: tuple[LayerWork, ...]) -> Blocks:
        key = (action.kind, action.stage, number)
        if key not in self.sequences:
            is_forward = action.kind is OpKind.FORWARD
            blocks = [work.forward if is_forward else work.backward for work in works]
            runs = groupby(blocks if is_forward else reversed(blocks))
            counted = tuple((block, len(list(same))) for block, same in runs)
            self.sequences[key] = Blocks(f"stage {action.stage}, {action.kind.name.lower()}", counted)
        return self.sequences[key]

    def _reduce(self, rank: int, bucket: Bucket, stage: int, after: int) -> None:
        for collective in bucket.reduces:
            op = self.builder.add(
                OpKind.COLLECTIVE, rank, Stream.DP_REDUCE, collective, after=(after,), stage=stage
            )
            self.reduced[rank].append(op)

    def _reduce_at_end(self, rank: int) -> None:
        for stage in reversed(range(len(self.stages))):
            if self._is_on(stage, rank):
                for bucket in reversed(self.buckets[stage]):
                    self._reduce(rank, bucket, stage, self.last_compute[rank])

    def transfer(self, actions: Actions) -> None:
        """Send activations to the next stage and gradients to the one before.

        Without overlap the sender's next pass waits until its message has left.
        """
        blocks = not self.scenario.training.overlap.p2p
        for mine in actions:
            for action, following in zip(mine, (*mine[1:], None), strict=True):
                op = self._send(action)
                if op is not None and blocks and following is not None:
                    self.builder.wait(self.ends[following][0], (op,))

    def _send(self, action: Action) -> int | None:
        parallelism = self.scenario.parallelism
        is_forward = action.kind is OpKind.FORWARD
        target = action.stage + (1 if is_forward else -1)
        if not 0 <= target < len(self.stages):
            return None
        here, there = rank_of_stage(parallelism, action.stage), rank_of_stage(parallelism, target)
        consumer = self.ends[Action(action.kind, target, action.microbatch)][0]
        producer = self.ends[action][1]
        if here == there:
            self.builder.wait(consumer, (producer,))
            return None
        message = Transfer(
            bytes=message_bytes(self.scenario),
            stride=abs(here - there) * stride(parallelism, "pp"),
            source=here,
            target=there,
        )
        op = self.builder.add(
            OpKind.TRANSFER,
            here,
            Stream.PP_FORWARD if is_forward else Stream.PP_BACKWARD,
            message,
            after=(producer,),
            microbatch=action.microbatch,
            stage=action.stage,
        )
        self.builder.wait(consumer, (op,))
        return op


def _edges(actions: Sequence[Action]) -> set[Action]:
    """Return the first forward and the last backward pass of each stage among a rank's actions."""
    first = {action.stage: action for action in reversed(actions) if action.kind is OpKind.FORWARD}
    last = {action.stage: action for action in actions if action.kind is not OpKind.FORWARD}
    return {*first.values(), *last.values()}
