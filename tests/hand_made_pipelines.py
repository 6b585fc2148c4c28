"""Small pipelines with round numbers, whose timelines can be worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.engines.durations import Durations
from simulator.engines.event import run
from simulator.workload.program import BlockSequence, OpKind, Program, ProgramBuilder, Stream
from simulator.workload.work import Collective, Elementwise, Group, StepOverhead, Transfer

if TYPE_CHECKING:
    from simulator.engines.timeline import Timeline

GEMM = Elementwise(name="gemm", bytes_moved=1.0)


def reduction(axis: str, name: str = "") -> Collective:
    return Collective(kind="all_reduce", group=Group(axis=axis, size=2, stride=1), bytes=1.0, name=name)


def one_f_one_b(ranks: int, microbatches: int, *, data_parallel: bool = False) -> Program:
    """1F1B with a transfer between neighbours; each forward holds one byte until its backward ends."""
    builder = ProgramBuilder(rank_names=tuple(f"pp {rank}" for rank in range(ranks)))
    ops: dict[tuple[str, int, int], int] = {}
    for rank in range(ranks):
        warm_up = min(ranks - rank - 1, microbatches)
        order = [("F", i) for i in range(warm_up)]
        for i in range(microbatches - warm_up):
            order += [("F", warm_up + i), ("B", i)]
        order += [("B", i) for i in range(microbatches - warm_up, microbatches)]
        forward, backward = BlockSequence(f"forward {rank}", ()), BlockSequence(f"backward {rank}", ())
        for letter, i in order:
            is_forward = letter == "F"
            ops[letter, i, rank] = builder.add(
                OpKind.FORWARD if is_forward else OpKind.BACKWARD,
                rank,
                Stream.COMPUTE,
                forward if is_forward else backward,
                microbatch=i,
                stage=rank,
                allocated_bytes=float(is_forward),
                freed_bytes=float(not is_forward),
            )
    for rank in range(ranks - 1):
        for i in range(microbatches):
            for letter, source, target in (("F", rank, rank + 1), ("B", rank + 1, rank)):
                stream = Stream.PP_FORWARD if letter == "F" else Stream.PP_BACKWARD
                work = Transfer(bytes=1.0, stride=1, source=source, target=target)
                after = [ops[letter, i, source]]
                transfer = builder.add(OpKind.TRANSFER, source, stream, work, after=after)
                builder.wait(ops[letter, i, target], [transfer])
    if data_parallel:
        for rank in range(ranks):
            last = ops["B", microbatches - 1, rank]
            reduce = builder.add(OpKind.COLLECTIVE, rank, Stream.DP_REDUCE, reduction("dp_cp"), after=[last])
            builder.add(OpKind.OPTIMIZER, rank, Stream.COMPUTE, GEMM, after=[reduce])
            builder.add(OpKind.OVERHEAD, rank, Stream.COMPUTE, StepOverhead())
    return builder.build()


def timed(program: Program, forward: float, backward: float, transfer: float, other: float = 0.0) -> Timeline:
    by_kind = np.full(len(OpKind), other)
    by_kind[[OpKind.FORWARD, OpKind.BACKWARD, OpKind.TRANSFER]] = forward, backward, transfer
    return run(program, Durations.of(by_kind[program.kind]))
