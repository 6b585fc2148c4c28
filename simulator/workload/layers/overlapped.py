"""A forward and a backward program run as one: the kernels of one hide the other's communication.

Kernels of both share the compute stream, taking turns where either has to wait for a collective (DualPipe,
DeepSeek-V3, arXiv:2412.19437, figure 4: attention, dispatch, experts and combine of one pass beside those of
the other). Whether a collective is hidden is found by running the program.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from simulator.schedules.op_kind import OpKind
from simulator.workload.program import Block, Program, ProgramBuilder, Stream

if TYPE_CHECKING:
    from collections.abc import Sequence


def overlapped_block(forward: Block, backward: Block) -> Block:
    """Return a block that runs a layer's forward pass beside another layer's backward pass."""
    program = overlapped_program(forward.program, backward.program)
    captured = forward.captured + backward.captured
    calls = forward.calls + backward.calls
    return Block(f"{forward.name} beside {backward.name}", program, captured, calls)


def overlapped_program(forward: Program, backward: Program) -> Program:
    """Return both programs as one, their parts between collectives taking turns, backward first."""
    builder = ProgramBuilder(rank_names=forward.rank_names)
    numbers: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for turn in zip_longest(_parts(backward), _parts(forward)):
        for program, known, part in zip((backward, forward), numbers, turn, strict=True):
            for op in part or ():
                known[op] = _copy(builder, program, op, known)
    return builder.build()


def _copy(builder: ProgramBuilder, program: Program, op: int, known: dict[int, int]) -> int:
    return builder.add(
        OpKind(program.kind[op]),
        int(program.rank[op]),
        Stream(program.stream[op]),
        program.works[program.work[op]],
        after=[known[other] for other in program.dependencies(op).tolist()],
    )


def _parts(program: Program) -> Sequence[list[int]]:
    """Cut a program where a kernel has to wait for a collective."""
    parts: list[list[int]] = [[]]
    stream = program.stream.tolist()
    for op in range(program.num_ops):
        waits = any(stream[other] != Stream.COMPUTE for other in program.dependencies(op).tolist())
        if stream[op] == Stream.COMPUTE and waits and parts[-1]:
            parts.append([])
        parts[-1].append(op)
    return parts
