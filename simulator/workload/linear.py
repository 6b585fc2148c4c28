"""Column- and row-parallel linear layers with their collectives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layer_steps import Linear, Pointwise, Step
from simulator.workload.work import Collective, CollectiveKind, Elementwise, Gemm

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.shapes import Shapes


def tensor_collective(
    shapes: Shapes, kind: CollectiveKind, tokens: int, width: int, name: str
) -> Collective | None:
    """Return a tensor-parallel collective over ``tokens x width`` activations, or None without tp."""
    if shapes.tp.size == 1:
        return None
    return Collective(kind=kind, group=shapes.tp, bytes=tokens * width * shapes.element_bytes, name=name)


def column_parallel(
    scenario: Scenario, shapes: Shapes, name: str, n: int, k: int, *, dtype: str | None = None
) -> list[Step]:
    """Return ``[tokens, k] x [k, n]`` with ``n`` already divided among tensor-parallel ranks."""
    sequence_parallel = scenario.parallelism.sequence_parallel
    gather = tensor_collective(shapes, "all_gather", shapes.tokens, k, f"{name}_gather")
    reduce: CollectiveKind = "reduce_scatter" if sequence_parallel else "all_reduce"
    forward = Gemm(name=name, m=shapes.tokens, n=n, k=k, dtype=dtype or shapes.gemm_dtype)
    linear = Linear(
        forward=forward,
        gather_input=gather if sequence_parallel else None,
        regather_input=gather if sequence_parallel else None,
        reduce_gradient=tensor_collective(shapes, reduce, shapes.tokens, k, f"{name}_dgrad_reduce"),
        saved_bytes=shapes.divided_tokens * k * shapes.element_bytes,
    )
    return [*casts(shapes, forward), linear]


def row_parallel(
    scenario: Scenario, shapes: Shapes, name: str, n: int, k: int, *, keeps_input: bool = True
) -> list[Step]:
    """Return ``[tokens, k] x [k, n]`` with ``k`` already divided among tensor-parallel ranks.

    ``keeps_input`` is false where the step before can make the input again from what it keeps.
    """
    sequence_parallel = scenario.parallelism.sequence_parallel
    reduce: CollectiveKind = "reduce_scatter" if sequence_parallel else "all_reduce"
    gather = tensor_collective(shapes, "all_gather", shapes.tokens, n, f"{name}_dgrad_gather")
    forward = Gemm(name=name, m=shapes.tokens, n=n, k=k, dtype=shapes.gemm_dtype)
    linear = Linear(
        forward=forward,
        reduce_output=tensor_collective(shapes, reduce, shapes.tokens, n, f"{name}_reduce"),
        gather_gradient=gather if sequence_parallel else None,
        saved_bytes=shapes.tokens * k * shapes.element_bytes if keeps_input else 0.0,
    )
    return [*casts(shapes, forward), linear]


def replicated(shapes: Shapes, name: str, n: int, k: int) -> list[Step]:
    """Return a linear layer that each tensor-parallel rank runs on its own tokens (router, latents)."""
    forward = Gemm(name=name, m=shapes.divided_tokens, n=n, k=k, dtype=shapes.dtype)
    return [Linear(forward=forward, saved_bytes=shapes.divided_tokens * k * shapes.element_bytes)]


def casts(shapes: Shapes, gemm: Gemm) -> list[Step]:
    """Return the casts of an fp8 GEMM: input and output gradient, each written as it is and transposed.

    The transposed copy feeds the weight-gradient GEMM (Transformer Engine's ``cast_transpose``).
    """
    if gemm.dtype not in {"fp8", "fp4"}:
        return []
    rows = gemm.m * gemm.batch
    per_element = shapes.element_bytes + 2 * (1 if gemm.dtype == "fp8" else 0.5)
    return [
        Pointwise(
            forward=(Elementwise(name=f"{gemm.name}_cast", bytes_moved=rows * gemm.k * per_element),),
            backward=(Elementwise(name=f"{gemm.name}_grad_cast", bytes_moved=rows * gemm.n * per_element),),
        )
    ]
