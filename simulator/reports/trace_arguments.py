"""What a slice of a trace says about its work: FLOPs, bytes, group, blocks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from simulator.workload.program import Block, BlockSequence, OpKind, Program, Work
from simulator.workload.work import Attention, Collective, Elementwise, Gemm, Scan, Transfer

if TYPE_CHECKING:
    from collections.abc import Iterator


def arguments_by_work(program: Program) -> list[list[str]]:
    """Return, for each piece of work of a program, its arguments as ``"key": value`` JSON texts."""
    return [
        [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in _arguments(work)]
        for work in program.works
    ]


def category(program: Program, op: int) -> str:
    """Return the PyTorch profiler's category for an op."""
    if program.kind[op] == OpKind.OVERHEAD:
        return "overhead"
    is_stage = isinstance(program.works[program.work[op]], BlockSequence)
    return "gpu_user_annotation" if is_stage else "kernel"


def _arguments(work: Work) -> Iterator[tuple[str, object]]:
    match work:
        case Gemm() | Attention() | Scan():
            yield "flops", round(work.flops)
        case Elementwise():
            yield "bytes", round(work.bytes_moved)
        case Transfer():
            yield "bytes", round(work.bytes)
        case Collective():
            yield "bytes", round(work.bytes)
            yield "group", f"{work.group.size} ranks over {work.group.axis}"
        case BlockSequence():
            yield "flops", round(sum(_flops(block) * times for block, times in work.blocks))
            yield "bytes", round(sum(_message_bytes(block) * times for block, times in work.blocks))
            yield "blocks", ", ".join(f"{times} x {block.name}" for block, times in work.blocks)


def _flops(block: Block) -> float:
    works = block.program.works
    return sum(getattr(works[index], "flops", 0.0) for index in block.program.work.tolist())


def _message_bytes(block: Block) -> float:
    """Add up what the block's collectives carry."""
    works = (block.program.works[index] for index in block.program.work.tolist())
    return sum(work.bytes for work in works if isinstance(work, Collective))
