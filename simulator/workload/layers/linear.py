"""Column- and row-parallel linear layers with their collectives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.low_precision import casts
from simulator.workload.layers.operation import Linear, Step
from simulator.workload.work import Collective, CollectiveKind, Elementwise, Gemm

if TYPE_CHECKING:
    from simulator.workload.layers.architecture import KernelOptions
    from simulator.workload.layers.local_sizes import LocalSizes


def tensor_collective(
    sizes: LocalSizes,
    kind: CollectiveKind,
    tokens: int,
    width: int,
    name: str,
    *,
    element_bytes: float | None = None,
) -> Collective | None:
    """Return a tensor-parallel collective over ``tokens x width`` activations, or None without tp."""
    if sizes.tp.size == 1:
        return None
    size = tokens * width * (element_bytes or sizes.element_bytes)
    return Collective(kind=kind, group=sizes.tp, bytes=size, name=name)


def column_parallel(
    sizes: LocalSizes,
    kernels: KernelOptions,
    name: str,
    n: int,
    k: int,
    *,
    dtype: str | None = None,
    parts: tuple[int, ...] = (),
    apart: bool | None = None,
) -> list[Step]:
    """Return ``[tokens, k] x [k, n]`` with ``n`` already divided among tensor-parallel ranks.

    ``parts`` are the columns of the matrices that some stacks keep apart (query, key and value; gate and up),
    ``apart`` whether they are; None: as the software's projections are.
    """
    forward = Gemm(
        name=name, m=sizes.tokens, n=n, k=k, dtype=dtype or sizes.gemm_dtype, promotes=sizes.promotes
    )
    operand = operand_bytes(sizes, forward)
    gather = None
    if sizes.sequence_parallel:
        gather = tensor_collective(
            sizes, "all_gather", sizes.tokens, k, f"{name}_gather", element_bytes=operand
        )
    reduce: CollectiveKind = "reduce_scatter" if sizes.sequence_parallel else "all_reduce"
    separate = kernels.separate_projections if apart is None else apart
    adds = len(parts) - 1
    separate = separate and adds > 0
    added = 3.0 * sizes.tokens * k * sizes.element_bytes
    kept_tokens = sizes.tokens if kernels.keeps_gathered_input else sizes.divided_tokens
    linear = Linear(
        forward=forward,
        gather_input=gather,
        regather_input=None if kernels.keeps_gathered_input else gather,
        reduce_gradient=tensor_collective(sizes, reduce, sizes.tokens, k, f"{name}_dgrad_reduce"),
        saved_bytes=kept_tokens * k * operand,
        parts=parts if separate else (),
        gradient_sum=Elementwise(name=f"{name}_dgrad_sum", bytes_moved=added * adds, kernels=adds)
        if separate
        else None,
    )
    share = sizes.divided_tokens / sizes.tokens
    return [*casts(sizes.quantisation, forward, sizes.tp, input_share=share), linear]


def row_parallel(sizes: LocalSizes, name: str, n: int, k: int, *, keeps_input: bool = True) -> list[Step]:
    """Return ``[tokens, k] x [k, n]`` with ``k`` already divided among tensor-parallel ranks.

    ``keeps_input`` is false where the step before can make the input again from what it keeps.
    """
    reduce: CollectiveKind = "reduce_scatter" if sizes.sequence_parallel else "all_reduce"
    forward = Gemm(name=name, m=sizes.tokens, n=n, k=k, dtype=sizes.gemm_dtype, promotes=sizes.promotes)
    operand = operand_bytes(sizes, forward)
    gather = None
    if sizes.sequence_parallel:
        gather = tensor_collective(
            sizes, "all_gather", sizes.tokens, n, f"{name}_dgrad_gather", element_bytes=operand
        )
    linear = Linear(
        forward=forward,
        reduce_output=tensor_collective(sizes, reduce, sizes.tokens, n, f"{name}_reduce"),
        gather_gradient=gather,
        saved_bytes=sizes.tokens * k * operand if keeps_input else 0.0,
    )
    share = sizes.divided_tokens / sizes.tokens
    return [*casts(sizes.quantisation, forward, sizes.tp, gradient_share=share), linear]


def replicated(
    sizes: LocalSizes, name: str, n: int, k: int, *, dtype: str | None = None, keeps_input: bool = True
) -> list[Step]:
    """Return a linear layer that each tensor-parallel rank runs on its own tokens (router, latents).

    ``keeps_input`` is false where another layer keeps the same input.
    """
    forward = Gemm(name=name, m=sizes.divided_tokens, n=n, k=k, dtype=dtype or sizes.dtype)
    size = sizes.divided_tokens * k * operand_bytes(sizes, forward)
    return [
        *casts(sizes.quantisation, forward, sizes.tp),
        Linear(forward=forward, saved_bytes=size if keeps_input else 0.0),
    ]


def operand_bytes(sizes: LocalSizes, gemm: Gemm) -> float:
    """Return the bytes of one value of a GEMM's input as it is gathered and kept for the backward pass."""
    return sizes.operand_bytes if gemm.dtype in {"fp8", "fp4"} else sizes.element_bytes
