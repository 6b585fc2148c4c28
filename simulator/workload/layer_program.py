"""From a layer's list of steps to its forward and backward Programs.

Kernels run in order on the compute stream. A collective starts when its data is ready; the compute stream
waits for it only where its result is needed, so overlap is an outcome of the program, not an input.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from simulator.workload.layer_steps import CoreAttention, Exchange, Linear, Pointwise, Step
from simulator.workload.program import OpKind, Program, ProgramBuilder, Stream
from simulator.workload.shapes import BYTES_PER_ELEMENT, shapes_of
from simulator.workload.work import Attention, Collective, Elementwise, Gemm, Transfer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.scenario.training import Recompute

Kernel = Gemm | Attention | Elementwise

_STREAMS = {"tp": Stream.TP, "cp": Stream.CP, "ep": Stream.EP}


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a layer is run, beyond what it computes.

    Attributes:
        overlaps_tp: Tensor-parallel collectives run in pieces beside the GEMM that needs or makes their data.
        wgrad_overlaps_tp: Backward collectives run beside weight-gradient GEMMs.
        recompute: What the backward pass runs again.
        accumulation_bytes: Bytes that a kernel of its own moves for each weight to add its gradient to those
            of earlier micro-batches; 0 where the weight-gradient GEMM does it or there is nothing to add to.
    """

    overlaps_tp: bool
    wgrad_overlaps_tp: bool
    recompute: Recompute
    accumulation_bytes: float

    @classmethod
    def of(cls, scenario: Scenario) -> Habits:
        """Read the habits of a scenario."""
        return cls(
            overlaps_tp=scenario.training.overlap.tp,
            wgrad_overlaps_tp=scenario.software.wgrad_overlaps_tp,
            recompute=scenario.training.recompute,
            accumulation_bytes=_accumulation_bytes(scenario),
        )


def _accumulation_bytes(scenario: Scenario) -> float:
    """Return the bytes per weight of reading a gradient, and reading and writing the accumulated one."""
    if "gradient_accumulation" in scenario.software.fused or scenario.num_microbatches == 1:
        return 0.0
    gradient = BYTES_PER_ELEMENT[shapes_of(scenario).dtype]
    return gradient + 2.0 * BYTES_PER_ELEMENT[scenario.training.grad_dtype]


def forward_program(steps: Sequence[Step], habits: Habits) -> Program:
    """Return the forward pass of a list of steps."""
    writer = _Writer(habits)
    for step in steps:
        writer.forward(step)
    return writer.builder.build()


def backward_program(steps: Sequence[Step], habits: Habits) -> Program:
    """Return the backward pass, recomputation first where the scenario asks for it."""
    writer = _Writer(habits)
    if habits.recompute == "full":
        for step in steps:
            writer.forward(step)
    for step in reversed(steps):
        writer.backward(step)
    return writer.builder.build()


def saved_bytes(steps: Sequence[Step], recompute: Recompute, input_bytes: float) -> float:
    """Return the activation bytes kept from the forward to the backward pass.

    Args:
        steps: The layer.
        recompute: What is recomputed; ``full`` keeps the layer's input only.
        input_bytes: Size of that input.
    """
    if recompute == "full":
        return input_bytes
    total = sum(step.saved_bytes for step in steps)
    if recompute == "selective":
        total -= sum(step.recomputed_bytes for step in steps if isinstance(step, CoreAttention))
    return total


@dataclass(slots=True)
class _Writer:
    """Appends steps; ``ready`` are the ops whose results the next step needs."""

    habits: Habits
    builder: ProgramBuilder = field(default_factory=lambda: ProgramBuilder(rank_names=("layer",)))
    ready: tuple[int, ...] = ()

    def forward(self, step: Step) -> None:
        match step:
            case Pointwise():
                self._kernels(step.forward)
            case Linear():
                self._linear_forward(step)
            case CoreAttention():
                self._attention(step, step.forward, step.ring_steps)
            case Exchange():
                if step.forward is not None:
                    self.ready = (self._exchange(step.forward, _STREAMS[step.stream], self.ready),)

    def backward(self, step: Step) -> None:
        match step:
            case Pointwise():
                self._kernels(step.backward)
            case Linear():
                self._linear_backward(step)
            case CoreAttention():
                if self.habits.recompute == "selective":
                    self._attention(step, step.forward, step.ring_steps)
                # The gradients of keys and values travel round the ring together with these.
                self._attention(step, step.backward, 2 * step.ring_steps)
            case Exchange():
                if step.backward is not None:
                    self.ready = (self._exchange(step.backward, _STREAMS[step.stream], self.ready),)

    def _kernel(self, work: Kernel, after: tuple[int, ...]) -> int:
        return self.builder.add(OpKind.KERNEL, 0, Stream.COMPUTE, work, after=after)

    def _exchange(self, work: Collective | Transfer, stream: Stream, after: tuple[int, ...]) -> int:
        kind = OpKind.TRANSFER if isinstance(work, Transfer) else OpKind.COLLECTIVE
        return self.builder.add(kind, 0, stream, work, after=after)

    def _kernels(self, works: Sequence[Kernel]) -> None:
        for work in works:
            self.ready = (self._kernel(work, self.ready),)

    def _linear_forward(self, step: Linear) -> None:
        if not self.habits.overlaps_tp:
            if step.gather_input is not None:
                self.ready = (self._exchange(step.gather_input, Stream.TP, self.ready),)
            self.ready = (self._kernel(step.forward, self.ready),)
            if step.reduce_output is not None:
                self.ready = (self._exchange(step.reduce_output, Stream.TP, self.ready),)
            return
        self.ready = self._pieces(step.gather_input, step.forward, step.reduce_output, self.ready)

    def _linear_backward(self, step: Linear) -> None:
        start = self.ready
        regathered: tuple[int, ...] = ()
        if step.gather_gradient is not None and not self.habits.overlaps_tp:
            start = (self._exchange(step.gather_gradient, Stream.TP, start),)
        if step.regather_input is not None:
            regathered = (self._exchange(step.regather_input, Stream.TP, self.ready),)
            if not self.habits.wgrad_overlaps_tp:
                start = (*start, *regathered)
        if self.habits.overlaps_tp:
            done = self._pieces(step.gather_gradient, step.input_gradient, None, start)
        else:
            done = (self._kernel(step.input_gradient, start),)
        reduced = done
        if step.reduce_gradient is not None:
            reduced = (self._exchange(step.reduce_gradient, Stream.TP, done),)
        wait = regathered if self.habits.wgrad_overlaps_tp else (*regathered, *reduced)
        self._weight_gradient(step.weight_gradient, (*done, *wait))
        self.ready = reduced

    def _weight_gradient(self, gemm: Gemm, after: tuple[int, ...]) -> None:
        """Compute a weight gradient; where the GEMM does not accumulate it, another kernel does."""
        each = self.habits.accumulation_bytes
        if not each:
            self._kernel(gemm, after)
            return
        self._kernel(replace(gemm, accumulates=False), after)
        size = gemm.batch * gemm.m * gemm.n * each
        self._kernel(Elementwise(name=f"{gemm.name}_accumulate", bytes_moved=size), ())

    def _pieces(
        self, gather: Collective | None, gemm: Gemm, reduce: Collective | None, start: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Run a GEMM in as many pieces as ranks share the collective, each piece as its data arrives."""
        exchange = gather or reduce
        count = 1 if exchange is None else min(exchange.group.size, gemm.m)
        outputs: list[int] = []
        for piece in range(count):
            rows = gemm.m // count + (piece < gemm.m % count)
            after = start
            if gather is not None:
                after = (self._exchange(replace(gather, bytes=gather.bytes / count), Stream.TP, start),)
            done = self._kernel(replace(gemm, m=rows), after)
            if reduce is not None:
                done = self._exchange(replace(reduce, bytes=reduce.bytes / count), Stream.TP, (done,))
            outputs.append(done)
        return tuple(outputs)

    def _attention(self, step: CoreAttention, works: Sequence[Kernel], messages: int) -> None:
        """Run the attention core, in one go or piece by piece as keys and values come round the ring."""
        if step.ring is None or not messages:
            self._kernels(works)
            return
        pieces = step.ring_steps + 1
        per_message = replace(step.ring, bytes=step.ring.bytes * messages / step.ring_steps)
        arrived = self.ready
        for piece in range(pieces):
            for work in works:
                self._kernel(_divided(work, pieces), arrived)
            if piece < step.ring_steps:
                arrived = (self._exchange(per_message, Stream.CP, arrived),)
        self.ready = ()


def _divided(work: Kernel, pieces: int) -> Kernel:
    """Return the part of an attention kernel that sees one rank's keys and values."""
    if isinstance(work, Attention):
        return replace(work, seq_kv=work.seq_kv // pieces, pairs=work.pairs / pieces)
    return work
