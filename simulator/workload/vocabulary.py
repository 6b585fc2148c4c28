"""The output layer divided among all pipeline ranks (vocabulary parallelism, Yeung et al., arXiv:2411.05288).

Each rank holds a part of the rows of the embedding and of the head. The last stage's result goes to all ranks; each
makes its logits and its sums for the soft-max (S), the ranks add these up, and each makes its part of the gradients
(T). In ``vocab-1`` T makes the input gradient, summed up in a second exchange; in ``vocab-2`` S does, before the sums
are known, and one exchange rescales and adds it. The look-ups of the input layer and their exchange hide behind
other passes and are left out.
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
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.shapes import shapes_of
from simulator.workload.work import Block, Collective, Group, Sequence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.scenario import Scenario
    from simulator.workload.schedules import Action

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
    """Return the passes of one rank; the final norm stays with the last stage."""
    pp = scenario.parallelism.pp
    shapes = shapes_of(scenario)
    shapes = replace(shapes, vocabulary=-(-shapes.vocabulary // pp))
    steps = head_steps(scenario, shapes)[1:]
    habits = replace(Habits.of(scenario), overlaps_tp=False)
    logits = Block("output layer, S", forward_program(steps, habits))
    saved = sum(step.saved_bytes for step in steps)
    if scenario.parallelism.vocabulary == "vocab-2":
        inputs = Block("output layer, input gradient", backward_program(steps, habits, part="input"))
        weights = Block("output layer, T", weight_gradient_program(steps, habits))
        first, second = ((logits, 1), (inputs, 1)), ((weights, 1),)
    else:
        gradients = Block("output layer, T", backward_program(steps, habits))
        first, second = ((logits, 1),), ((gradients, 1),)
    return OutputLayer(
        forward=Sequence("output layer, S", first),
        backward=Sequence("output layer, T", second),
        saved_bytes=saved,
    )


@dataclass(slots=True, kw_only=True)
class OutputWriter:
    """Appends passes S and T and the exchanges around them.

    Attributes:
        scenario: The request.
        builder: Where ops are appended.
        layer: One rank's part of the output layer.
        received: Op that brings the last stage's result, by rank and micro-batch.
        exchanged: Op after which the last stage's backward pass may run, by rank and micro-batch.
        summed: Exchange after S, by rank and micro-batch.
    """

    scenario: Scenario
    builder: ProgramBuilder
    layer: OutputLayer
    received: dict[tuple[int, int], int] = field(default_factory=dict)
    exchanged: dict[tuple[int, int], int] = field(default_factory=dict)
    summed: dict[tuple[int, int], int] = field(default_factory=dict)

    def append(self, rank: int, action: Action) -> int:
        """Append S or T of a rank with its exchange, and return the pass's op."""
        if action.kind is OpKind.OUTPUT_FORWARD:
            return self._forward(rank, action.microbatch)
        return self._backward(rank, action.microbatch)

    def _forward(self, rank: int, microbatch: int) -> int:
        size = self._activations()
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
        sums = 3 * 4.0 * shapes_of(self.scenario).tokens
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
                "all_reduce", self._activations(), rank, microbatch, Stream.EP, 2, after=op
            )
        return op

    def _activations(self) -> float:
        shapes = shapes_of(self.scenario)
        return shapes.divided_tokens * self.scenario.model.hidden_size * shapes.element_bytes

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

    def connect(
        self, ends: Mapping[Action, tuple[int, int]], last_stage: int, owners: Mapping[Action, int]
    ) -> None:
        """Let S wait for the last stage's forward pass, and its backward pass for the exchange."""
        for action, (first, last) in ends.items():
            if action.stage != last_stage:
                continue
            place = owners[action], action.microbatch
            if action.kind is OpKind.FORWARD:
                self.builder.wait(self.received[place], (last,))
            elif action.kind in {OpKind.BACKWARD, OpKind.BACKWARD_INPUT}:
                self.builder.wait(first, (self.exchanged[place],))
