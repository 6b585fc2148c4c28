"""Messages between pipeline stages: activations to the next stage, their gradients to the one before."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from simulator.schedules import Action
from simulator.schedules.columns import Passes
from simulator.schedules.op_kind import OpKind
from simulator.workload.grid import Mesh
from simulator.workload.layers.local_sizes import shapes_of
from simulator.workload.program import Stream
from simulator.workload.work import Transfer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from simulator.scenario import Scenario
    from simulator.workload.grid import N
    from simulator.workload.program import Bools, Floats, Ints, ProgramBuilder

_KINDS = (OpKind.FORWARD, OpKind.BACKWARD, OpKind.BACKWARD_INPUT, OpKind.BACKWARD_WEIGHT)


def message_bytes(
    tokens: N, tp: N, token_bytes: float, *, whole_messages: bool, sequence_parallel: bool | Bools
) -> float | Floats:
    """Return what one rank sends to the next pipeline stage for each micro-batch; of one layout, or of many.

    With tensor parallelism every rank sends its part and the receivers gather it over their fast links
    (Narayanan et al., arXiv:2104.04473, section 4.1), unless the stack sends the whole activation from each;
    with sequence parallelism that part is all it has.

    Args:
        tokens: Tokens of a micro-batch on one context-parallel rank.
        tp: Tensor-parallel ranks.
        token_bytes: Bytes of one token's activation between layers.
        whole_messages: Whether the stack sends whole activations.
        sequence_parallel: Whether activations are divided along the sequence among tensor-parallel ranks.
    """
    if not whole_messages:
        return tokens / tp * token_bytes
    return tokens / np.where(sequence_parallel, tp, 1) * token_bytes


def message_bytes_of(scenario: Scenario) -> float:
    """Return what one rank of a scenario sends to the next pipeline stage for each micro-batch."""
    shapes = shapes_of(scenario)
    sent = message_bytes(
        shapes.tokens,
        shapes.tp.size,
        scenario.model.hidden_size * shapes.element_bytes,
        whole_messages=scenario.software.whole_messages,
        sequence_parallel=scenario.parallelism.sequence_parallel,
    )
    return float(sent)


def message(size: float, apart: int, source: int, target: int, *, receives: bool = False) -> Transfer:
    """Return the message of one micro-batch between two pipeline ranks, or the receiver's part in it.

    Args:
        size: Bytes that one rank sends.
        apart: Distance between neighbouring pipeline ranks in global rank numbering.
        source: Pipeline rank that sends.
        target: Pipeline rank that receives.
        receives: Whether this is the receiver's part.
    """
    return Transfer(
        bytes=size, stride=abs(source - target) * apart, source=source, target=target, receives=receives
    )


@dataclass(slots=True, kw_only=True)
class Messages:
    """Appends the messages of one step.

    Passes are numbered by kind, stage and micro-batch (see ``number``); -1 stands for none.

    Attributes:
        scenario: The request.
        builder: Where ops are appended.
        stages: Stages of the model.
        microbatches: Micro-batches of the step.
        owner: Rank that runs each pass.
        producer: Pass of the neighbouring stage whose result each pass needs.
        travels: Whether what each pass needs comes from another rank.
        target: Rank that each pass sends its result to.
        first: First op of each pass, as far as they were appended.
        last: Last op of each pass.
        sent: Message that each pass sends.
        received: Receiver's part, of the pass that waits for it.
        works: Work of a message by source, target and whether it is the receiver's part.
        over: Work of a message from rank 0 over so many ranks.
    """

    scenario: Scenario
    builder: ProgramBuilder
    stages: int
    microbatches: int
    owner: Ints
    producer: Ints
    travels: Bools
    target: Ints
    first: Ints = field(init=False)
    last: Ints = field(init=False)
    sent: Ints = field(init=False)
    received: Ints = field(init=False)
    works: dict[tuple[int, int, bool], Transfer] = field(default_factory=dict)
    over: dict[int, Transfer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.first, self.last, self.sent, self.received = np.full((4, len(self.owner)), -1)

    @classmethod
    def of(
        cls, scenario: Scenario, builder: ProgramBuilder, order: Sequence[Passes], stages: int
    ) -> Messages:
        """Work out who needs whose result."""
        passes = Passes.joined(*order)
        microbatches = 1 + int(passes.microbatch.max(initial=0))
        owners = np.full((len(_KINDS), stages, microbatches), -1)
        ranks = np.repeat(np.arange(len(order)), [len(each) for each in order])
        owners[passes.kind, passes.stage, passes.microbatch] = ranks
        producer = _producers(owners)
        owner: Ints = owners.reshape(-1)
        needs = np.flatnonzero(producer >= 0)
        travels = np.zeros(len(owner), dtype=np.bool_)
        travels[needs] = owner[producer[needs]] != owner[needs]
        target = np.full(len(owner), -1)
        sends = np.flatnonzero(travels)
        target[producer[sends]] = owner[sends]
        return cls(
            scenario=scenario,
            builder=builder,
            stages=stages,
            microbatches=microbatches,
            owner=owner,
            producer=producer,
            travels=travels,
            target=target,
        )

    def number(self, action: Action) -> int:
        """Return the number of a pass."""
        return (int(action.kind) * self.stages + action.stage) * self.microbatches + action.microbatch

    def numbers(self, passes: Passes) -> Ints:
        """Return the numbers of passes."""
        numbers: Ints = (passes.kind * self.stages + passes.stage) * self.microbatches + passes.microbatch
        return numbers

    def stage(self, numbers: Ints) -> Ints:
        """Return the stages of numbered passes."""
        return numbers // self.microbatches % self.stages

    @property
    def ranks(self) -> int:
        """Pipeline ranks."""
        return self.scenario.parallelism.pp

    @property
    def blocks(self) -> bool:
        """Whether ranks wait while they send and receive."""
        return not self.scenario.training.overlap.p2p

    def receive(self, action: Action) -> None:
        """Let a rank wait for a message, unless receiving is overlapped with its passes."""
        number = self.number(action)
        if not self.blocks or not self.travels[number]:
            return
        rank, source = int(self.owner[number]), int(self.owner[self.producer[number]])
        self.received[number] = self.builder.add(
            OpKind.TRANSFER,
            rank,
            Stream.COMPUTE,
            self.work(source, rank, receives=True),
            microbatch=action.microbatch,
            stage=int(self.producer[number]) // self.microbatches % self.stages,
        )

    def send(self, action: Action) -> None:
        """Send a pass's result; without overlap the rank's next pass waits until it has left."""
        number = self.number(action)
        target = int(self.target[number])
        if target < 0:
            return
        rank = int(self.owner[number])
        self.sent[number] = self.builder.add(
            OpKind.TRANSFER,
            rank,
            self.stream(action.kind),
            self.work(rank, target),
            after=(int(self.last[number]),),
            microbatch=action.microbatch,
            stage=action.stage,
        )

    def stream(self, kind: OpKind) -> Stream:
        """Return the stream that sends the result of a pass."""
        if self.blocks:
            return Stream.COMPUTE
        return Stream.PP_FORWARD if kind is OpKind.FORWARD else Stream.PP_BACKWARD

    def work(self, source: int, target: int, *, receives: bool = False) -> Transfer:
        """Return the work of a message, one for all micro-batches."""
        key = (source, target, receives)
        if key not in self.works:
            hops = abs(source - target)
            if hops not in self.over:
                apart = Mesh.of(self.scenario.parallelism).stride("pp")
                self.over[hops] = message(message_bytes_of(self.scenario), apart, 0, hops)
            self.works[key] = replace(self.over[hops], source=source, target=target, receives=receives)
        return self.works[key]

    def connect(self) -> None:
        """Let every pass wait for what it needs."""
        needs = np.flatnonzero(self.producer >= 0)
        needs = needs[np.argsort(self.first[needs], kind="stable")]
        before = self.producer[needs]
        comes = np.where(self.travels[needs], self.sent[before], self.last[before])
        self.builder.wait_all(self.first[needs], comes)
        receives = np.flatnonzero(self.received >= 0)
        self.builder.wait_all(self.received[receives], self.last[self.producer[receives]])

    def passes_of(self, stage: int) -> Iterator[tuple[Action, int, int, int]]:
        """Yield the passes of a stage, each with its rank, its first and its last op."""
        for kind in _KINDS:
            for microbatch in range(self.microbatches):
                action = Action(kind, stage, microbatch)
                number = self.number(action)
                if self.owner[number] >= 0:
                    yield action, int(self.owner[number]), int(self.first[number]), int(self.last[number])


def _producers(owner: Ints) -> Ints:
    """Return the pass of a neighbouring stage that each pass needs: see ``schedules.chains.needed``.

    Args:
        owner: Rank of each pass by kind, stage and micro-batch, -1 where there is none.
    """
    number = np.arange(owner.size).reshape(owner.shape)
    producer = np.full_like(owner, -1)
    forward, backward, inputs, _ = range(len(_KINDS))
    producer[forward, 1:] = number[forward, :-1]
    later = np.where(owner[inputs, 1:] >= 0, number[inputs, 1:], number[backward, 1:])
    producer[backward, :-1] = producer[inputs, :-1] = later
    found: Ints = np.where(owner < 0, -1, producer).reshape(-1)
    return found
