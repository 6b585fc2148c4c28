"""The vocabulary of a layer: steps that know their forward work, their backward work and what they keep.

A layer is a list of steps. ``lower`` makes of the list the forward and the backward Program, so a
new kind of layer is a new list and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from simulator.workload.work import Attention, Collective, Elementwise, Gemm, Scan, Transfer

if TYPE_CHECKING:
    from collections.abc import Iterable

Kernel = Gemm | Attention | Scan | Elementwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointwise:
    """A memory-bound step.

    Attributes:
        forward: Kernels of the forward pass.
        backward: Kernels of the backward pass.
        saved_bytes: Activation bytes kept for the backward pass.
        working_bytes: Further bytes that exist while the backward kernels run.
        modules: Names by which recomputation and offloading address the step, the outermost first.
    """

    forward: tuple[Elementwise, ...]
    backward: tuple[Elementwise, ...]
    saved_bytes: float = 0.0
    working_bytes: float = 0.0
    modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A matrix multiplication with weights, and the tensor-parallel collectives around it.

    A column-parallel layer gathers its input along the sequence (with sequence parallelism) and reduces its
    input gradient; a row-parallel layer reduces its output and gathers its output gradient (Korthikanti et
    al., arXiv:2205.05198, figure 6). Backward, the input is gathered again beside the input-gradient GEMM,
    and the input gradient is reduced beside the weight-gradient GEMM.

    Attributes:
        forward: The forward GEMM.
        gather_input: Collective before the forward GEMM.
        reduce_output: Collective after the forward GEMM.
        gather_gradient: Collective on the output gradient before both backward GEMMs.
        regather_input: Collective on the saved input before the weight-gradient GEMM.
        reduce_gradient: Collective on the input gradient.
        saved_bytes: Bytes of the saved input.
        parts: Columns of each matrix where several multiply the same input by kernels of their own; empty
            for one matrix.
        gradient_sum: What adds up their input gradients.
        modules: Names by which recomputation and offloading address the step, the outermost first.
    """

    forward: Gemm
    gather_input: Collective | None = None
    reduce_output: Collective | None = None
    gather_gradient: Collective | None = None
    regather_input: Collective | None = None
    reduce_gradient: Collective | None = None
    saved_bytes: float = 0.0
    parts: tuple[int, ...] = ()
    gradient_sum: Elementwise | None = None
    modules: tuple[str, ...] = ()

    @property
    def working_bytes(self) -> float:
        """Gradients of input and output, which exist together in the backward pass."""
        width = sum(self.parts) or self.forward.n
        return 2.0 * self.forward.m * (width + self.forward.k)

    @property
    def products(self) -> tuple[Gemm, ...]:
        """Y[m, n] = X[m, k] W[k, n], for each matrix."""
        f = self.forward
        return tuple(replace(f, n=width) for width in self.parts) if self.parts else (f,)

    @property
    def input_gradients(self) -> tuple[Gemm, ...]:
        """dX[m, k] = dY[m, n] W^T[n, k], for each matrix."""
        return tuple(replace(f, name=f"{f.name}_dgrad", n=f.k, k=f.n) for f in self.products)

    @property
    def weight_gradients(self) -> tuple[Gemm, ...]:
        """dW[k, n] += X^T[k, m] dY[m, n], for each matrix."""
        return tuple(
            replace(f, name=f"{f.name}_wgrad", m=f.k, k=f.m, accumulates=True) for f in self.products
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreAttention:
    """Scores, softmax and weighted sum: what selective recomputation runs again.

    Attributes:
        forward: Kernels of the forward pass.
        backward: Kernels of the backward pass.
        ring: Message that passes keys and values on to the next context-parallel rank, or None.
        gather: Collective that brings the keys and values of all ring steps but the first, instead of
            ``ring``.
        ring_forward: Kernels of each step of the ring, instead of ``forward``.
        ring_backward: The same of the backward pass.
        saved_bytes: Bytes kept for the backward pass: outputs, and the score matrix when not fused.
        recomputed_bytes: Of these, bytes that selective recomputation does not keep.
        input_bytes: Of the saved bytes, those of queries, keys and values.
        output_bytes: Size of the result, which the next step keeps as its input.
        working_bytes: Further bytes that exist while the backward kernels run: gradients of the scores.
        modules: Names by which recomputation and offloading address the step, the outermost first.
    """

    forward: tuple[Kernel, ...]
    backward: tuple[Kernel, ...]
    ring: Transfer | None = None
    gather: Collective | None = None
    ring_forward: tuple[tuple[Kernel, ...], ...] = ()
    ring_backward: tuple[tuple[Kernel, ...], ...] = ()
    saved_bytes: float = 0.0
    recomputed_bytes: float = 0.0
    input_bytes: float = 0.0
    output_bytes: float = 0.0
    working_bytes: float = 0.0
    modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A collective that stands by itself: expert dispatch and combine, context-parallel gathering.

    Attributes:
        forward: Collective of the forward pass, or None.
        backward: Collective of the backward pass, or None.
        stream: Stream that carries it.
        saved_bytes: Bytes kept for the backward pass, those of the steps beside it included.
        modules: Names by which recomputation and offloading address the step, the outermost first.
        beside: Steps that need no result of it and run while it is in flight.
    """

    forward: Collective | None
    backward: Collective | None
    stream: Literal["tp", "cp", "ep"]
    saved_bytes: float = 0.0
    modules: tuple[str, ...] = ()
    beside: tuple[Step, ...] = ()


Step = Pointwise | Linear | CoreAttention | Exchange


def within(module: str, steps: Iterable[Step]) -> list[Step]:
    """Return the steps as parts of a module that recomputation and offloading know by name."""
    return [replace(step, modules=(module, *step.modules)) for step in steps]
