"""How many kernels the host launches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.work import Elementwise, Gemm

if TYPE_CHECKING:
    from simulator.workload.program import Program
    from simulator.workload.work import Work


def launches(program: Program) -> int:
    """Count the kernels of a program that are launched, collectives included."""
    counts = [_kernels(work) for work in program.works]
    return sum(counts[index] for index in program.work.tolist())


def _kernels(work: Work) -> int:
    """Count the kernels of one piece of work; a grouped product is one for each group (see ``work.Gemm``)."""
    if isinstance(work, Elementwise):
        return work.kernels
    return work.batch if isinstance(work, Gemm) and work.grouped else 1
