"""Matrix multiplications in chunks that overlap with the tensor-parallel collective before or behind them.

Wang et al., "Overlap Communication with Dependent Computation via Decomposition" (ASPLOS 2023). A gathered
input comes from neighbour to neighbour; each rank starts with the rows it has (Transformer Engine's
``split_overlap_ag``, PyTorch's ``_fused_all_gather_matmul``). A result that will be reduced leaves chunk by
chunk: in reduce-scatters of each (Transformer Engine's "pipeline" method), or as messages to the ranks that
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
    """Divide a GEMM's rows; a remainder goes to the first chunks.

    Several streams run them, so that each fills what the last wave of the one before leaves idle; nothing
    does that for the last one.

    >>> [chunk.m for chunk in split(Gemm(name="", m=10, n=1, k=1, dtype="bf16"), 4)]
    [3, 3, 2, 2]
    """
    count = max(1, min(count, gemm.m))
    rows = [gemm.m // count + (chunk < gemm.m % count) for chunk in range(count)]
    return [*(replace(gemm, m=chunk, pieces=count) for chunk in rows[:-1]), replace(gemm, m=rows[-1])]


def ring_message(collective: Collective) -> Transfer:
    """Return the message that carries one rank's part of a collective to a neighbour."""
    group = collective.group
    size = collective.bytes / group.size
    span = group.stride * (group.size - 1)
    return Transfer(bytes=size, stride=group.stride, source=0, target=0, span=span, by_copy_engine=True)


def gathered_chunks(gather: Collective, gemm: Gemm) -> Sequence[Gemm]:
    """Return a chunk of the GEMM for the rows of each rank."""
    return split(gemm, gather.group.size)


def reduced_chunks(
    reduce: Collective, gemm: Gemm, count: int, reserved_sms: int
) -> tuple[Sequence[Gemm], Collective | Transfer, Elementwise | None]:
    """Return the chunks of a GEMM whose result is reduced, what sends one, and what adds them up.

    Args:
        reduce: The reduce-scatter of the whole result.
        gemm: The multiplication.
        count: Chunks that are reduce-scattered each; 0: a chunk for each rank, sent to it.
        reserved_sms: SMs that the chunks leave to the reduce-scatters (``set_sm_margin``).
    """
    if count:
        chunks = split(replace(gemm, spared=reserved_sms), count)
        return chunks, replace(reduce, bytes=reduce.bytes / len(chunks)), None
    ranks = reduce.group.size
    merge = Elementwise(name=f"{reduce.name}_sum", bytes_moved=reduce.bytes * (1 + 1 / ranks))
    return split(gemm, ranks), ring_message(reduce), merge
