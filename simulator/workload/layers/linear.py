"""Column- and row-parallel linear layers with their collectives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.casts import casts
from simulator.workload.layers.operation import Linear, Step
from simulator.workload.work import Collective, CollectiveKind, Elementwise, Gemm

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.layers.local_sizes import Shapes


def tensor_collective(
    shapes: Shapes,
    kind: CollectiveKind,
    tokens: int,
    width: int,
    name: str,
    *,
    element_bytes: float | None = None,
) -> Collective | None:
    """Return a tensor-parallel collective over ``tokens x width`` activations, or None without tp."""
    if shapes.tp.size == 1:
        return None
    size = tokens * width * (element_bytes or shapes.element_bytes)
    return Collective(kind=kind, group=shapes.tp, bytes=size, name=name)


def column_parallel(
    scenario: Scenario,
    shapes: Shapes,
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
    ``apart`` whether they are; None: as the software's habit is.
    """
    sequence_parallel = scenario.parallelism.sequence_parallel
    forward = Gemm(
        name=name, m=shapes.tokens, n=n, k=k, dtype=dtype or shapes.gemm_dtype, promotes=shapes.promotes
    )
    each = operand_bytes(shapes, forward)
    gather = tensor_collective(shapes, "all_gather", shapes.tokens, k, f"{name}_gather", element_bytes=each)
    reduce: CollectiveKind = "reduce_scatter" if sequence_parallel else "all_reduce"
    separate = scenario.software.separate_projections if apart is None else apart
    adds = len(parts) - 1
    separate = separate and adds > 0
    added = 3.0 * shapes.tokens * k * shapes.element_bytes
    kept_tokens = shapes.tokens if scenario.software.keeps_gathered_input else shapes.divided_tokens
    linear = Linear(
        forward=forward,
        gather_input=gather if sequence_parallel else None,
        regather_input=gather if sequence_parallel else None,
        reduce_gradient=tensor_collective(shapes, reduce, shapes.tokens, k, f"{name}_dgrad_reduce"),
        saved_bytes=kept_tokens * k * operand_bytes(shapes, forward),
        parts=parts if separate else (),
        gradient_sum=Elementwise(name=f"{name}_dgrad_sum", bytes_moved=added * adds, kernels=adds)
        if separate
        else None,
    )
    share = shapes.divided_tokens / shapes.tokens
    return [*casts(shapes, forward, input_share=share), linear]


def row_parallel(
    scenario: Scenario, shapes: Shapes, name: str, n: int, k: int, *, keeps_input: bool = True
) -> list[Step]:
    """Return ``[tokens, k] x [k, n]`` with ``k`` already divided among tensor-parallel ranks.

    ``keeps_input`` is false where the step before can make the input again from what it keeps.
    """
    sequence_parallel = scenario.parallelism.sequence_parallel
    reduce: CollectiveKind = "reduce_scatter" if sequence_parallel else "all_reduce"
    forward = Gemm(name=name, m=shapes.tokens, n=n, k=k, dtype=shapes.gemm_dtype, promotes=shapes.promotes)
    each = operand_bytes(shapes, forward)
    gather = tensor_collective(
        shapes, "all_gather", shapes.tokens, n, f"{name}_dgrad_gather", element_bytes=each
    )
    linear = Linear(
        forward=forward,
        reduce_output=tensor_collective(shapes, reduce, shapes.tokens, n, f"{name}_reduce"),
        gather_gradient=gather if sequence_parallel else None,
        saved_bytes=shapes.tokens * k * operand_bytes(shapes, forward) if keeps_input else 0.0,
    )
    share = shapes.divided_tokens / shapes.tokens
    return [*casts(shapes, forward, gradient_share=share), linear]


def replicated(
    shapes: Shapes, name: str, n: int, k: int, *, dtype: str | None = None, keeps_input: bool = True
) -> list[Step]:
    """Return a linear layer that each tensor-parallel rank runs on its own tokens (router, latents).

    ``keeps_input`` is false where another layer keeps the same input.
    """
    forward = Gemm(name=name, m=shapes.divided_tokens, n=n, k=k, dtype=dtype or shapes.dtype)
    size = shapes.divided_tokens * k * operand_bytes(shapes, forward)
    return [*casts(shapes, forward), Linear(forward=forward, saved_bytes=size if keeps_input else 0.0)]


def operand_bytes(shapes: Shapes, gemm: Gemm) -> float:
    """Return the bytes of one value of a GEMM's input as it is gathered and kept for the backward pass."""
    return shapes.operand_bytes if gemm.dtype in {"fp8", "fp4"} else shapes.element_bytes
