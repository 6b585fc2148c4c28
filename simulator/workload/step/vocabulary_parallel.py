"""Passes S and T of an output layer that all pipeline ranks share, and the exchanges around them.

Each rank's part of the work is ``layers.output_layer``'s (Yeung et al., arXiv:2411.05288).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.workload.grid import Mesh
from simulator.workload.layers.local_sizes import shapes_of
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.work import Collective

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.schedules import Action
    from simulator.workload.step.messages import Messages

from simulator.workload.layers.output_layer import OutputLayer, output_layer

_FIRST_JOIN = 1_000_000
"""Joins of the output layer are numbered from here."""


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
        group = Mesh.of(self.scenario.parallelism).group("pp")
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
