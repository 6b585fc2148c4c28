"""From a layer's list of steps to its forward and backward Programs.

Kernels run in order on the compute stream. A collective starts when its data is ready; the compute stream
waits for it only where its result is needed, so overlap is an outcome of the program, not an input.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from simulator.workload.layers.local_sizes import BYTES_PER_ELEMENT, wide_dtype
from simulator.workload.layers.operation import CoreAttention, Exchange, Linear, Pointwise, Step
from simulator.workload.layers.tensor_overlap import gathered_chunks, reduced_chunks, ring_message
from simulator.workload.program import OpKind, Program, ProgramBuilder, Stream
from simulator.workload.work import Attention, Collective, Elementwise, Gemm, HostCopy, Scan, Transfer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from simulator.scenario import Software, Training

Kernel = Gemm | Attention | Scan | Elementwise
Part = Literal["all", "input", "weight"]
"""What of a backward pass: everything, input gradients, or weight gradients."""

_STREAMS = {"tp": Stream.TP, "cp": Stream.CP, "ep": Stream.EP}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOptions:
    """How a layer is run, beyond what it computes.

    Attributes:
        overlaps_tp: Tensor-parallel collectives run in chunks beside the GEMM that needs or makes their data.
        wgrad_overlaps_tp: Backward collectives run beside weight-gradient GEMMs.
        tp_reduce_chunks: Chunks of a GEMM whose result is reduced meanwhile; 0: one per rank, by messages.
        collective_sms: SMs that collectives take.
        wgrad_accumulates: Whether weight-gradient GEMMs add to the accumulated gradient by themselves.
        gradient_bytes: Bytes of an accumulated gradient.
        accumulation_bytes: Bytes that a kernel of its own moves for each weight to add its gradient to those
            of earlier micro-batches; 0 where the weight-gradient GEMM does it or there is nothing to add to.
    """

    overlaps_tp: bool
    wgrad_overlaps_tp: bool
    tp_reduce_chunks: int
    collective_sms: int
    wgrad_accumulates: bool
    gradient_bytes: float
    accumulation_bytes: float

    @classmethod
    def of(cls, training: Training, software: Software, num_microbatches: int) -> LayerOptions:
        """Return how layers are run, given how many micro-batches a step has."""
        accumulates = "gradient_accumulation" in software.fused
        gradient = float(BYTES_PER_ELEMENT[training.grad_dtype])
        # Reading a gradient, and reading and writing the accumulated one.
        accumulated = BYTES_PER_ELEMENT[wide_dtype(training.precision)] + 2.0 * gradient
        return cls(
            overlaps_tp=training.overlap.tp,
            wgrad_overlaps_tp=software.wgrad_overlaps_tp,
            tp_reduce_chunks=software.tp_reduce_pieces,
            collective_sms=software.collective_multiprocessors,
            wgrad_accumulates=accumulates,
            gradient_bytes=gradient,
            accumulation_bytes=0.0 if accumulates or num_microbatches == 1 else accumulated,
        )


def forward_program(steps: Sequence[Step], options: LayerOptions, offloaded_bytes: float = 0.0) -> Program:
    """Return the forward pass; meanwhile the offloaded activations of the layer before are copied out."""
    writer = _Writer(options)
    writer.copy(Stream.HOST_OUT, offloaded_bytes)
    for step in steps:
        writer.forward(step)
    return writer.builder.build()


def backward_program(
    steps: Sequence[Step],
    options: LayerOptions,
    reruns: Mapping[int, Sequence[Step]] | None = None,
    offloaded_bytes: float = 0.0,
    part: Part = "all",
) -> Program:
    """Return the backward pass, or its half without weight gradients.

    Args:
        steps: The layer.
        options: How it is run.
        reruns: By step, the steps that run forward once more before its backward pass.
        offloaded_bytes: Activations of the next layer to be worked on that are copied in meanwhile.
        part: What of it.
    """
    writer = _Writer(options, part=part)
    writer.copy(Stream.HOST_IN, offloaded_bytes)
    for index in reversed(range(len(steps))):
        for again in (reruns or {}).get(index, ()):
            writer.forward(again)
        writer.backward(steps[index])
    return writer.builder.build()


def weight_gradient_program(steps: Sequence[Step], options: LayerOptions) -> Program:
    """Return the other half of the backward pass: weight gradients from what was kept for them."""
    writer = _Writer(options, part="weight")
    for linear in reversed(list(linears(steps))):
        writer.weight_half(linear)
    return writer.builder.build()


def linears(steps: Iterable[Step]) -> Iterator[Linear]:
    """Yield the steps that have weight gradients, those beside exchanges included."""
    for step in steps:
        match step:
            case Linear():
                yield step
            case Exchange():
                yield from linears(step.beside)


def weight_gradient_bytes(steps: Iterable[Step], element_bytes: float) -> float:
    """Return what weight gradients wait with: the input and the output gradient of each linear layer."""
    total = 0.0
    for step in linears(steps):
        gemm = step.forward
        whole = gemm.batch * gemm.m * gemm.k * element_bytes
        kept = step.saved_bytes or whole
        total += kept + gemm.batch * gemm.m * gemm.n * element_bytes
    return total


@dataclass(slots=True)
class _Writer:
    """Appends steps; ``ready`` are the ops whose results the next step needs."""

    options: LayerOptions
    part: Part = "all"
    builder: ProgramBuilder = field(default_factory=lambda: ProgramBuilder(rank_names=("layer",)))
    ready: tuple[int, ...] = ()

    def forward(self, step: Step) -> None:
        match step:
            case Pointwise():
                self._kernels(step.forward)
            case Linear():
                self._linear_forward(step)
            case CoreAttention():
                self._attention_forward(step)
            case Exchange():
                arrived = self._start(step.forward, step)
                for aside in step.beside:
                    self.forward(aside)
                self._arrive(arrived, step)

    def backward(self, step: Step) -> None:
        match step:
            case Pointwise():
                self._kernels(step.backward)
            case Linear():
                self._linear_backward(step)
            case CoreAttention():
                self._attention_backward(step)
            case Exchange():
                arrived = self._start(step.backward, step)
                for aside in reversed(step.beside):
                    self.backward(aside)
                self._arrive(arrived, step)

    def copy(self, stream: Stream, size: float) -> None:
        if size:
            self.builder.add(OpKind.TRANSFER, 0, stream, HostCopy(bytes=size))

    def _kernel(self, work: Kernel, after: tuple[int, ...]) -> int:
        return self.builder.add(OpKind.KERNEL, 0, Stream.COMPUTE, work, after=after)

    def _exchange(self, work: Collective | Transfer, stream: Stream, after: tuple[int, ...]) -> int:
        kind = OpKind.TRANSFER if isinstance(work, Transfer) else OpKind.COLLECTIVE
        return self.builder.add(kind, 0, stream, work, after=after)

    def _start(self, work: Collective | None, step: Exchange) -> tuple[int, ...]:
        """Start an exchange and return what its result is to wait for; steps beside it start with it."""
        if work is None:
            return ()
        return (self._exchange(work, _STREAMS[step.stream], self.ready),)

    def _arrive(self, arrived: tuple[int, ...], step: Exchange) -> None:
        """Let the next step wait for an exchange, and for what ran beside it."""
        if arrived:
            self.ready = (*self.ready, *arrived) if step.beside else arrived

    def _kernels(self, works: Sequence[Kernel]) -> None:
        for work in works:
            self.ready = (self._kernel(work, self.ready),)

    def _linear_forward(self, step: Linear) -> None:
        if step.gather_input is not None:
            self.ready = self._gathered(step.gather_input, step.products, self.ready)
        else:
            _, self.ready = self._reduced(step.products, None, step.reduce_output, self.ready)

    def _linear_backward(self, step: Linear) -> None:
        start = self.ready
        regathered: tuple[int, ...] = ()
        if self.part == "all" and step.regather_input is not None:
            regathered = (self._exchange(step.regather_input, Stream.TP, start),)
            if not self.options.wgrad_overlaps_tp:
                start = (*start, *regathered)
        gemms, total = step.input_gradients, step.gradient_sum
        if step.gather_gradient is not None:
            reduced = done = self._gathered(step.gather_gradient, gemms, start)
        elif self.options.wgrad_overlaps_tp and step.reduce_gradient is not None:
            done = self._summed(gemms, total, start)
            reduced = (self._exchange(step.reduce_gradient, Stream.TP, done),)
        else:
            done, reduced = self._reduced(gemms, total, step.reduce_gradient, start)
        wait = (*done, *regathered) if self.options.wgrad_overlaps_tp else (*done, *regathered, *reduced)
        self._weight_gradients(step, wait)
        self.ready = reduced

    def weight_half(self, step: Linear) -> None:
        after: tuple[int, ...] = ()
        if step.regather_input is not None:
            after = (self._exchange(step.regather_input, Stream.TP, ()),)
        self._weight_gradients(step, after)

    def _weight_gradients(self, step: Linear, after: tuple[int, ...]) -> None:
        for gemm in step.weight_gradients:
            self._weight_gradient(gemm, after)

    def _weight_gradient(self, gemm: Gemm, after: tuple[int, ...]) -> None:
        """Compute a weight gradient; where the GEMM does not accumulate it, another kernel does."""
        if self.part == "input":
            return
        accumulates, size = self.options.wgrad_accumulates, self.options.gradient_bytes
        self._kernel(replace(gemm, accumulates=accumulates, accumulated_bytes=size), after)
        size = gemm.batch * gemm.m * gemm.n * self.options.accumulation_bytes
        if size:
            self._kernel(Elementwise(name=f"{gemm.name}_accumulate", bytes_moved=size), ())

    def _summed(
        self, gemms: Sequence[Gemm], total: Elementwise | None, start: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Run products one after the other, and add up their results where there are several to add."""
        done = tuple(self._kernel(gemm, start) for gemm in gemms)
        return done if total is None else (self._kernel(total, done),)

    def _gathered(
        self, gather: Collective | None, gemms: Sequence[Gemm], start: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Gather the input of some products and run them, in chunks where the software overlaps both."""
        if gather is None or not self.options.overlaps_tp:
            after = start if gather is None else (self._exchange(gather, Stream.TP, start),)
            return self._summed(gemms, None, after)
        done: list[int] = []
        arrived = start
        rounds = list(zip(*(gathered_chunks(gather, gemm) for gemm in gemms), strict=True))
        for index, chunks in enumerate(rounds):
            following = arrived
            if index < len(rounds) - 1:
                following = (self._exchange(ring_message(gather), Stream.TP, arrived),)
            done += [self._kernel(chunk, arrived) for chunk in chunks]
            arrived = following
        return tuple(done)

    def _reduced(
        self,
        gemms: Sequence[Gemm],
        total: Elementwise | None,
        reduce: Collective | None,
        start: tuple[int, ...],
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Run products and reduce their result, in chunks where the software overlaps both.

        A sum of several products is reduced in one go (PyTorch's ``fuse_matmul_reduce_scatter`` takes the
        result of a single product only).

        Returns:
            The ops that make the result, and those that end its reduction.
        """
        in_chunks = self.options.overlaps_tp and len(gemms) == 1
        if reduce is None or not in_chunks or reduce.kind != "reduce_scatter":
            made = self._summed(gemms, total, start)
            return made, made if reduce is None else (self._exchange(reduce, Stream.TP, made),)
        chunks, message, merge = reduced_chunks(
            reduce, gemms[0], self.options.tp_reduce_chunks, self.options.collective_sms
        )
        done: list[int] = []
        sent: list[int] = []
        for index, chunk in enumerate(chunks):
            done.append(self._kernel(chunk, start))
            if merge is None or index < len(chunks) - 1:
                sent.append(self._exchange(message, Stream.TP, (done[-1],)))
        if merge is not None:
            sent = [self._kernel(merge, (*done, *sent))]
        return tuple(done), tuple(sent)

    def _attention_forward(self, step: CoreAttention) -> None:
        """Run the attention core in one go, or step by step as keys and values come."""
        if step.ring is None:
            self._kernels(step.forward)
            return
        arrived = self.ready
        last = len(step.ring_forward) - 1
        for index, kernels in enumerate(step.ring_forward):
            following = self._key_values(step, arrived, index, last)
            self._ring_step(kernels, arrived)
            arrived = following

    def _key_values(
        self, step: CoreAttention, arrived: tuple[int, ...], index: int, last: int
    ) -> tuple[int, ...]:
        """Start what brings the keys and values of the next ring step: a message, or a gathering for all."""
        if index == last or step.ring is None:
            return arrived
        if step.gather is None:
            return (self._exchange(step.ring, Stream.CP, arrived),)
        return (self._exchange(step.gather, Stream.CP, arrived),) if index == 0 else arrived

    def _attention_backward(self, step: CoreAttention) -> None:
        """Run the core's backward pass; gradients of keys and values travel one step behind these.

        In a ring the first message carries keys and values, the last one their gradients, those between both
        (Transformer Engine, ``AttnFuncWithCPAndKVP2P.backward``); gathered keys and values need messages for
        gradients only.
        """
        if step.ring is None:
            self._kernels(step.backward)
            return
        arrived, sent = self.ready, self.ready
        made: tuple[int, ...] = ()
        last = len(step.ring_backward) - 1
        for index, kernels in enumerate(step.ring_backward):
            following = self._key_values(step, arrived, index, last) if step.gather is not None else arrived
            if step.gather is None or index > 0:
                both = step.gather is None and index not in {0, last}
                message = replace(step.ring, bytes=step.ring.bytes * (2 if both else 1))
                sent = (self._exchange(message, Stream.CP, (*sent, *made)),)
            made = self._ring_step(kernels, arrived)
            arrived = sent if step.gather is None else following
        self.ready = (*sent, *made)

    def _ring_step(self, works: Sequence[Kernel], arrived: tuple[int, ...]) -> tuple[int, ...]:
        """Run the kernels of one step of the ring."""
        self.ready = arrived
        self._kernels(works)
        return self.ready
