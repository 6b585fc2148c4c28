"""Messages between pipeline stages: activations to the next stage, their gradients to the one before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.workload.grid import stride
from simulator.workload.pipeline import plain
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.schedules.chains import needed, split_backward_passes
from simulator.workload.shapes import shapes_of
from simulator.workload.work import Transfer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.scenario import Scenario
    from simulator.workload.schedules import Action, Order


def message_bytes(scenario: Scenario) -> float:
    """Return what one rank sends to the next pipeline stage for each micro-batch.

    With tensor parallelism every rank sends its part and the receivers gather it over their fast links
    (Narayanan et al., arXiv:2104.04473, section 4.1), unless the stack sends the whole activation from each;
    with sequence parallelism that part is all it has.
    """
    shapes = shapes_of(scenario)
    is_whole = scenario.software.whole_messages and not scenario.parallelism.sequence_parallel
    tokens = shapes.tokens / (1 if is_whole else shapes.tp.size)
    return tokens * scenario.model.hidden_size * shapes.element_bytes


@dataclass(slots=True, kw_only=True)
class Messages:
    """Appends the messages of one step.

    Attributes:
        scenario: The request.
        builder: Where ops are appended.
        owners: Rank that runs each pass.
        producers: The pass of the neighbouring stage whose result each pass needs.
        consumers: The pass of the neighbouring stage that needs each pass's result.
        ends: First and last op of each pass, as far as they were appended.
        sent: Op of each message, by the pass that sends it.
        received: Op of the receiver's part, by the pass that waits for it.
        transfers: Work of a message by source, target and whether it is the receiver's part.
    """

    scenario: Scenario
    builder: ProgramBuilder
    owners: Mapping[Action, int]
    producers: Mapping[Action, Action]
    consumers: Mapping[Action, Action]
    ends: dict[Action, tuple[int, int]] = field(default_factory=dict)
    sent: dict[Action, int] = field(default_factory=dict)
    received: dict[Action, int] = field(default_factory=dict)
    transfers: dict[tuple[int, int, bool], Transfer] = field(default_factory=dict)

    @classmethod
    def of(cls, scenario: Scenario, builder: ProgramBuilder, order: Order, stages: int) -> Messages:
        """Work out who needs whose result."""
        splits = split_backward_passes(order)
        owners = {action: rank for rank, actions in enumerate(plain(order)) for action in actions}
        pairs = [(action, needed(action, stages, splits)) for action in owners]
        producers = {
            action: before
            for action, before in pairs
            if before is not None
            and action.kind is not OpKind.BACKWARD_WEIGHT
            and before.stage != action.stage
        }
        consumers = {before: action for action, before in producers.items()}
        return cls(
            scenario=scenario, builder=builder, owners=owners, producers=producers, consumers=consumers
        )

    def _travels(self, action: Action) -> bool:
        """Tell whether what a pass needs comes from another rank."""
        before = self.producers.get(action)
        return before is not None and self.owners[before] != self.owners[action]

    def receive(self, action: Action) -> None:
        """Let a rank wait for a message, unless receiving is overlapped with its passes."""
        if self.scenario.training.overlap.p2p or not self._travels(action):
            return
        before = self.producers[action]
        self.received[action] = self._append(before, self.owners[action], Stream.COMPUTE, receives=True)

    def send(self, action: Action) -> None:
        """Send a pass's result; without overlap the rank's next pass waits until it has left."""
        after = self.consumers.get(action)
        if after is None or not self._travels(after):
            return
        blocks = not self.scenario.training.overlap.p2p
        is_forward = action.kind is OpKind.FORWARD
        stream = Stream.PP_FORWARD if is_forward else Stream.PP_BACKWARD
        op = self._append(action, self.owners[action], Stream.COMPUTE if blocks else stream)
        self.builder.wait(op, (self.ends[action][1],))
        self.sent[action] = op

    def connect(self) -> None:
        """Let every pass wait for what it needs."""
        for action, before in self.producers.items():
            first, made = self.ends[action][0], self.ends[before][1]
            if not self._travels(action):
                self.builder.wait(first, (made,))
            elif action in self.received:
                self.builder.wait(self.received[action], (made,))
                self.builder.wait(first, (self.sent[before],))
            else:
                self.builder.wait(first, (self.sent[before],))

    def _append(self, action: Action, rank: int, stream: Stream, *, receives: bool = False) -> int:
        """Append the message that a pass's result makes, on one end of its way."""
        source, target = self.owners[action], self.owners[self.consumers[action]]
        if (source, target, receives) not in self.transfers:
            self.transfers[source, target, receives] = Transfer(
                bytes=message_bytes(self.scenario),
                stride=abs(source - target) * stride(self.scenario.parallelism, "pp"),
                source=source,
                target=target,
                receives=receives,
            )
        message = self.transfers[source, target, receives]
        return self.builder.add(
            OpKind.TRANSFER, rank, stream, message, microbatch=action.microbatch, stage=action.stage
        )
