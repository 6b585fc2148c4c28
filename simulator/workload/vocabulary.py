"""The output layer divided among all pipeline ranks (vocabulary parallelism, Yeung et al., arXiv:2411.05288).

Each rank holds a part of the rows of the embedding and of the head. The last stage's result goes to all
ranks; each makes its logits and its sums for the soft-max (S), the ranks add these up, and each makes its
part of the gradients (T). In ``vocab-1`` T makes the input gradient, summed up in a second exchange; in
``vocab-2`` S does, before the sums are known, and one exchange rescales and adds it. Byte counts follow the
published code (sail-sg/VocabularyParallelism, ``vocab_output.py`` and ``vocab_parallel_schedule.py``):
exchanges are in fp32, and every rank looks up its rows of the embedding beside S and accumulates their
gradients beside T. The input layer's exchanges hide behind other passes and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from simulator.workload.boundary_steps import head_steps
from simulator.workload.grid import stride
from simulator.workload.layer_program import (
    Habits,
    backward_program,
    forward_program,
    weight_gradient_program,
)
from simulator.workload.layer_steps import Pointwise
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.shapes import BYTES_PER_ELEMENT, shapes_of
from simulator.workload.work import Block, Collective, Elementwise, Group, Sequence

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.messages import Messages
    from simulator.workload.schedules import Action
    from simulator.workload.shapes import Shapes

_FIRST_JOIN = 1_000_000
"""Joins of the output layer are numbered from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLayer:
    """One rank's part of the output layer.

    Attributes:
        forward: Pass S.
        backward: Pass T.
        saved_bytes: Activations from S to T: the input, and the soft-max of the rank's logits.
    """

    forward: Sequence
    backward: Sequence
    saved_bytes: float


def output_layer(scenario: Scenario) -> OutputLayer:
    """Return the passes of one rank; the final norm stays with the last stage.

    The soft-max is never fused: its sums go to other ranks before it is finished (``VocabParallelOutput``).
    """
    pp = scenario.parallelism.pp
    software = replace(scenario.software, fused=scenario.software.fused - {"cross_entropy"})
    scenario = replace(scenario, software=software)
    shapes = shapes_of(scenario)
    shapes = replace(shapes, vocabulary=-(-shapes.vocabulary // pp))
    steps = [_casts(scenario, shapes), *head_steps(scenario, shapes)[1:], _rescaled(scenario, shapes)]
    habits = replace(Habits.of(scenario), overlaps_tp=False)
    logits = Block("output layer, S", forward_program(steps, habits))
    saved = sum(step.saved_bytes for step in steps)
    first: tuple[Block, ...] = (logits,)
    if scenario.parallelism.vocabulary == "vocab-2":
        inputs = Block("output layer, input gradient", backward_program(steps, habits, part="input"))
        weights = Block("output layer, T", weight_gradient_program(steps, habits))
        first, second = (logits, inputs), weights
    else:
        gradients = Block("output layer, T", backward_program(steps, habits))
        second = gradients
    look_up, accumulate = _input_layer(scenario, shapes, habits)
    return OutputLayer(
        forward=Sequence("output layer, S", tuple((block, 1) for block in (look_up, *first))),
        backward=Sequence("output layer, T", tuple((block, 1) for block in (second, accumulate))),
        saved_bytes=saved,
    )


def _casts(scenario: Scenario, shapes: Shapes) -> Pointwise:
    """Return what surrounds the exchanges: the input is copied out of its fp32 buffer and cast.

    Backward, the target rows of the head are gathered and masked, and the input gradient in fp32 is scaled
    and lessened by them.
    """
    elements, e = shapes.tokens * scenario.model.hidden_size, shapes.element_bytes
    copied = Elementwise(name="output layer, input", bytes_moved=elements * (4 + 4 + 4 + e), kernels=2)
    gathered = 2 * e + 2 * e + (4 + 4) + (4 + e + 4)
    lessened = Elementwise(name="output layer, input gradient", bytes_moved=elements * gathered, kernels=4)
    return Pointwise(forward=(copied,), backward=(lessened,))


def _rescaled(scenario: Scenario, shapes: Shapes) -> Pointwise:
    """Return what T does to the soft-max of the rank's own logits: it is divided by the sum of all ranks.

    ``vocab-2`` has cast that soft-max for its input gradient already, and T casts it again.
    """
    again = 4 + shapes.element_bytes if scenario.parallelism.vocabulary == "vocab-2" else 0
    size = shapes.tokens * shapes.vocabulary * (8.0 + again)
    kernel = Elementwise(name="soft-max, rescaled", bytes_moved=size, kernels=2 if again else 1, exact=True)
    return Pointwise(forward=(), backward=(kernel,))


def _input_layer(scenario: Scenario, shapes: Shapes, habits: Habits) -> tuple[Block, Block]:
    """Return one rank's part of the input layer.

    Forward: look-up and mask. Backward: a dense gradient of the rank's rows is cleared, filled, and added
    to the accumulated one.
    """
    elements, e = shapes.tokens * scenario.model.hidden_size, shapes.element_bytes
    rows = shapes.vocabulary * scenario.model.hidden_size
    accumulated = rows * (e + e + 2 * BYTES_PER_ELEMENT[scenario.training.grad_dtype])
    found = Elementwise(name="input layer", bytes_moved=elements * 4 * e, kernels=2)
    added = Elementwise(name="input layer, gradient", bytes_moved=accumulated + elements * 3 * e, kernels=3)
    forward, backward = (
        forward_program([Pointwise(forward=(kernel,), backward=())], habits) for kernel in (found, added)
    )
    return Block("input layer, forward", forward), Block("input layer, backward", backward)


@dataclass(slots=True, kw_only=True)
class OutputWriter:
    """Appends passes S and T and the exchanges around them.

    Attributes:
        scenario: The request.
        builder: Where ops are appended.
        layer: One rank's part of the output layer.
        tokens: Tokens of a micro-batch.
        activation_bytes: Size of an activation or its gradient in fp32.
        received: Op that brings the last stage's result, by rank and micro-batch.
        exchanged: Op after which the last stage's backward pass may run, by rank and micro-batch.
        summed: Exchange after S, by rank and micro-batch.
    """

    scenario: Scenario
    builder: ProgramBuilder
    layer: OutputLayer
    tokens: int
    activation_bytes: float
    received: dict[tuple[int, int], int] = field(default_factory=dict)
    exchanged: dict[tuple[int, int], int] = field(default_factory=dict)
    summed: dict[tuple[int, int], int] = field(default_factory=dict)

    @classmethod
    def of(cls, scenario: Scenario, builder: ProgramBuilder) -> OutputWriter:
        """Return the writer of a scenario's output layer."""
        shapes = shapes_of(scenario)
        return cls(
            scenario=scenario,
            builder=builder,
            layer=output_layer(scenario),
            tokens=shapes.tokens,
            activation_bytes=4.0 * shapes.divided_tokens * scenario.model.hidden_size,
        )

    def append(self, rank: int, action: Action) -> int:
        """Append S or T of a rank with its exchange, and return the pass's op."""
        if action.kind is OpKind.OUTPUT_FORWARD:
            return self._forward(rank, action.microbatch)
        return self._backward(rank, action.microbatch)

    def _forward(self, rank: int, microbatch: int) -> int:
        size = self.activation_bytes
        arrived = self._exchange("broadcast", size, rank, microbatch, Stream.TP, 0)
        self.received[rank, microbatch] = arrived
        op = self.builder.add(
            OpKind.OUTPUT_FORWARD,
            rank,
            Stream.COMPUTE,
            self.layer.forward,
            after=(arrived,),
            microbatch=microbatch,
            allocated_bytes=self.layer.saved_bytes,
        )
        sums = 3 * 4.0 * self.tokens
        is_fused = self.scenario.parallelism.vocabulary == "vocab-2"
        total = self._exchange(
            "all_reduce", sums + (size if is_fused else 0.0), rank, microbatch, Stream.CP, 1, after=op
        )
        self.summed[rank, microbatch] = total
        if is_fused:
            self.exchanged[rank, microbatch] = total
        return op

    def _backward(self, rank: int, microbatch: int) -> int:
        op = self.builder.add(
            OpKind.OUTPUT_BACKWARD,
            rank,
            Stream.COMPUTE,
            self.layer.backward,
            after=(self.summed[rank, microbatch],),
            microbatch=microbatch,
            freed_bytes=self.layer.saved_bytes,
        )
        if self.scenario.parallelism.vocabulary != "vocab-2":
            self.exchanged[rank, microbatch] = self._exchange(
                "all_reduce", self.activation_bytes, rank, microbatch, Stream.EP, 2, after=op
            )
        return op

    def _exchange(
        self,
        kind: str,
        size: float,
        rank: int,
        microbatch: int,
        stream: Stream,
        number: int,
        *,
        after: int | None = None,
    ) -> int:
        parallelism = self.scenario.parallelism
        group = Group(axis="pp", size=parallelism.pp, stride=stride(parallelism, "pp"))
        work = Collective(
            kind="broadcast" if kind == "broadcast" else "all_reduce",
            group=group,
            bytes=size,
            name=f"output layer, {kind.replace('_', '-')}",
        )
        return self.builder.add(
            OpKind.COLLECTIVE,
            rank,
            stream,
            work,
            after=() if after is None else (after,),
            microbatch=microbatch,
            join=_FIRST_JOIN + 3 * microbatch + number,
        )

    def connect(self, messages: Messages) -> None:
        """Let S wait for the last stage's forward pass, and its backward pass for the exchange."""
        for action, rank, first, last in messages.passes_of(messages.stages - 1):
            place = rank, action.microbatch
            if action.kind is OpKind.FORWARD:
                self.builder.wait(self.received[place], (last,))
            elif action.kind in {OpKind.BACKWARD, OpKind.BACKWARD_INPUT}:
                self.builder.wait(first, (self.exchanged[place],))
