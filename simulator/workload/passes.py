"""The pipeline's passes and the messages between its stages, as a schedule orders them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from simulator.workload.grid import stride
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.schedules import Action
from simulator.workload.shapes import shapes_of
from simulator.workload.work import Sequence as Blocks
from simulator.workload.work import Transfer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.workload.data_parallel import DataParallel, Segment
    from simulator.workload.stages import Stage


def message_bytes(scenario: Scenario) -> float:
    """Return what one rank sends to the next pipeline stage for each micro-batch.

    With tensor parallelism every rank sends its part and the receivers gather it over their fast links
    (Narayanan et al., arXiv:2104.04473, section 4.1); with sequence parallelism that part is all it has.
    """
    shapes = shapes_of(scenario)
    return shapes.tokens / shapes.tp.size * scenario.model.hidden_size * shapes.element_bytes


@dataclass(slots=True, kw_only=True)
class PassWriter:
    """Appends passes and messages of one step.

    Attributes:
        scenario: The request.
        stages: Its pipeline stages.
        builder: Where ops are appended.
        data_parallel: Cuts passes where its collectives hook in.
        owners: Rank that runs each action.
        last_compute: Last op of each rank's compute stream.
        ends: First and last op of each action.
        sequences: Work of a pass over a stage or over one of its buckets.
    """

    scenario: Scenario
    stages: tuple[Stage, ...]
    builder: ProgramBuilder
    data_parallel: DataParallel
    owners: dict[Action, int] = field(default_factory=dict)
    last_compute: dict[int, int] = field(default_factory=dict)
    ends: dict[Action, tuple[int, int]] = field(default_factory=dict)
    sequences: dict[tuple[OpKind, int, int], Blocks] = field(default_factory=dict)

    def run(self, rank: int, actions: Sequence[Action]) -> None:
        """Append a rank's passes in their order."""
        edges = _edges(actions)
        for position, action in enumerate(actions):
            self.owners[action] = rank
            is_edge = action in edges
            segments = self.data_parallel.segments(rank, action, is_first=position == 0, is_edge=is_edge)
            ops = [self._compute(rank, action, segment) for segment in segments]
            self.ends[action] = (ops[0], ops[-1])
            self.last_compute[rank] = ops[-1]
        self.data_parallel.finish(rank, self.last_compute[rank])

    def _compute(self, rank: int, action: Action, segment: Segment) -> int:
        size = sum(work.saved_bytes for work in segment.works)
        is_forward = action.kind is OpKind.FORWARD
        op = self.builder.add(
            action.kind,
            rank,
            Stream.COMPUTE,
            self._sequence(action, segment),
            after=segment.after,
            microbatch=action.microbatch,
            stage=action.stage,
            allocated_bytes=size if is_forward else 0.0,
            freed_bytes=0.0 if is_forward else size,
        )
        if segment.reduces is not None:
            self.data_parallel.reduce(rank, action.stage, segment.reduces, op)
        return op

    def _sequence(self, action: Action, segment: Segment) -> Blocks:
        key = (action.kind, action.stage, segment.number)
        if key not in self.sequences:
            is_forward = action.kind is OpKind.FORWARD
            blocks = [work.forward if is_forward else work.backward for work in segment.works]
            runs = groupby(blocks if is_forward else reversed(blocks))
            counted = tuple((block, len(list(same))) for block, same in runs)
            self.sequences[key] = Blocks(f"stage {action.stage}, {action.kind.name.lower()}", counted)
        return self.sequences[key]

    def transfer(self, actions: Sequence[Sequence[Action]]) -> None:
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
        """Append the message that an action's result makes, unless its consumer is on the same rank."""
        is_forward = action.kind is OpKind.FORWARD
        target = action.stage + (1 if is_forward else -1)
        if not 0 <= target < len(self.stages):
            return None
        following = Action(action.kind, target, action.microbatch)
        here, there = self.owners[action], self.owners[following]
        producer, consumer = self.ends[action][1], self.ends[following][0]
        if here == there:
            self.builder.wait(consumer, (producer,))
            return None
        message = Transfer(
            bytes=message_bytes(self.scenario),
            stride=abs(here - there) * stride(self.scenario.parallelism, "pp"),
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
