"""How many kernels the host launches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.work import NOTHING, Elementwise, Gemm, Launches

if TYPE_CHECKING:
    from simulator.workload.program import Program, Work


def launches(program: Program) -> Launches:
    """Count the kernels of a program that are launched, collectives included."""
    counts = [_kernels(work) for work in program.works]
    return sum((counts[index] for index in program.work.tolist()), NOTHING)


def _kernels(work: Work) -> Launches:
    """Count the kernels of one piece of work; a grouped product is one for each group (see ``work.Gemm``).

    A library starts the products of all groups from one call, and so the conversions of their rows.
    """
    if isinstance(work, Elementwise):
        calls = -(-work.kernels // work.loops)
        return Launches(calls, work.kernels - calls)
    return Launches(1, work.batch - 1 if isinstance(work, Gemm) and work.grouped else 0)
