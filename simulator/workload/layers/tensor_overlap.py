"""Matrix multiplications in pieces that overlap with the tensor-parallel collective before or behind them.

Wang et al., "Overlap Communication with Dependent Computation via Decomposition" (ASPLOS 2023). A gathered
input comes from neighbour to neighbour; each rank starts with the rows it has (Transformer Engine's
``split_overlap_ag``, PyTorch's ``_fused_all_gather_matmul``). A result that will be reduced leaves piece by
piece: in reduce-scatters of each (Transformer Engine's "pipeline" method), or as messages to the ranks that
own the rows, which add up what they received (its "ring_exchange" method, PyTorch's
``_fused_matmul_reduce_scatter``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.workload.work import Collective, Elementwise, Gemm, Transfer

if TYPE_CHECKING:
    from collections.abc import Sequence


def split(gemm: Gemm, count: int) -> list[Gemm]:
    """Divide a GEMM's rows; a remainder goes to the first pieces.

    Several streams run them, so that each fills what the last wave of the one before leaves idle; nothing
    does that for the last one.

    >>> [piece.m for piece in split(Gemm(name="", m=10, n=1, k=1, dtype="bf16"), 4)]
    [3, 3, 2, 2]
    """
    count = max(1, min(count, gemm.m))
    rows = [gemm.m // count + (piece < gemm.m % count) for piece in range(count)]
    return [*(replace(gemm, m=part, pieces=count) for part in rows[:-1]), replace(gemm, m=rows[-1])]


def ring_message(collective: Collective) -> Transfer:
    """Return the message that carries one rank's part of a collective to a neighbour."""
    group = collective.group
    size = collective.bytes / group.size
    span = group.stride * (group.size - 1)
    return Transfer(bytes=size, stride=group.stride, source=0, target=0, span=span, by_copy_engine=True)


def gathered_pieces(gather: Collective, gemm: Gemm) -> Sequence[Gemm]:
    """Return a piece of the GEMM for the rows of each rank."""
    return split(gemm, gather.group.size)


def reduced_pieces(
    reduce: Collective, gemm: Gemm, count: int, spared: int
) -> tuple[Sequence[Gemm], Collective | Transfer, Elementwise | None]:
    """Return the pieces of a GEMM whose result is reduced, what sends one, and what adds them up.

    Args:
        reduce: The reduce-scatter of the whole result.
        gemm: The multiplication.
        count: Pieces that are reduce-scattered each; 0: a piece for each rank, sent to it.
        spared: Multiprocessors that the pieces leave to the reduce-scatters (``set_sm_margin``).
    """
    if count:
        pieces = split(replace(gemm, spared=spared), count)
        return pieces, replace(reduce, bytes=reduce.bytes / len(pieces)), None
    ranks = reduce.group.size
    merge = Elementwise(name=f"{reduce.name}_sum", bytes_moved=reduce.bytes * (1 + 1 / ranks))
    return split(gemm, ranks), ring_message(reduce), merge
