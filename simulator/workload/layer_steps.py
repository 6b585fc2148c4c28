"""The vocabulary of a layer: steps that know their forward work, their backward work and what they keep.

A layer is a list of steps. ``layer_program`` turns the list into the forward and the backward Program, so a
new kind of layer is a new list and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from simulator.workload.work import Attention, Collective, Elementwise, Gemm, Transfer

Kernel = Gemm | Attention | Elementwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointwise:
    """A memory-bound step.

    Attributes:
        forward: Kernels of the forward pass.
        backward: Kernels of the backward pass.
        saved_bytes: Activation bytes kept for the backward pass.
    """

    forward: tuple[Elementwise, ...]
    backward: tuple[Elementwise, ...]
    saved_bytes: float = 0.0


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
    """

    forward: Gemm
    gather_input: Collective | None = None
    reduce_output: Collective | None = None
    gather_gradient: Collective | None = None
    regather_input: Collective | None = None
    reduce_gradient: Collective | None = None
    saved_bytes: float = 0.0

    @property
    def input_gradient(self) -> Gemm:
        """dX[m, k] = dY[m, n] W^T[n, k]."""
        f = self.forward
        return replace(f, name=f"{f.name}_dgrad", n=f.k, k=f.n)

    @property
    def weight_gradient(self) -> Gemm:
        """dW[k, n] += X^T[k, m] dY[m, n]."""
        f = self.forward
        return replace(f, name=f"{f.name}_wgrad", m=f.k, k=f.m, accumulates=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreAttention:
    """Scores, soft-max and weighted sum: what selective recomputation runs again.

    Attributes:
        forward: Kernels of the forward pass.
        backward: Kernels of the backward pass.
        ring: Message that passes keys and values on to the next context-parallel rank, or None.
        ring_steps: Messages of one forward pass (``cp - 1``); the kernels are divided among ``cp`` pieces.
        saved_bytes: Bytes kept for the backward pass: outputs, and the score matrix when not fused.
        recomputed_bytes: Of these, bytes that selective recomputation does not keep.
    """

    forward: tuple[Kernel, ...]
    backward: tuple[Kernel, ...]
    ring: Transfer | None = None
    ring_steps: int = 0
    saved_bytes: float = 0.0
    recomputed_bytes: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A collective that stands by itself: expert dispatch and combine, context-parallel gathering.

    Attributes:
        forward: Collective of the forward pass, or None.
        backward: Collective of the backward pass, or None.
        stream: Stream that carries it.
        saved_bytes: Bytes kept for the backward pass.
    """

    forward: Collective | None
    backward: Collective | None
    stream: Literal["tp", "cp", "ep"]
    saved_bytes: float = 0.0


Step = Pointwise | Linear | CoreAttention | Exchange
