"""Writes what ``torch.distributed.pipelining.schedules`` orders, for tests that run without PyTorch.

    python tests/oracles/make_pytorch_schedules.py > tests/oracles/pytorch_schedules.json

needs torch 2.13.0 (the CPU build will do). Communication and reduce-grad marks are left out, and so are
empty cells: what remains is the order in which each rank computes.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = (
    "GPipe",
    "1F1B",
    "Interleaved1F1B",
    "LoopedBFS",
    "InterleavedZeroBubble",
    "ZBVZeroBubble",
    "DualPipeV",
)
RANKS = (2, 3, 4, 8)
MICROBATCHES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20)
LONGEST = 600
CHUNKS = {"GPipe": (1,), "1F1B": (1,), "ZBVZeroBubble": (2,), "DualPipeV": (2,)}


def order(name: str, pp: int, vpp: int, num_microbatches: int) -> list[str] | None:
    """Return a line of actions per rank, or None where PyTorch refuses the shape."""
    from torch.distributed.pipelining import schedules

    kind = schedules.get_schedule_class(name)
    if name in {"GPipe", "1F1B"}:
        return [_single_stage(kind, rank, pp, num_microbatches) for rank in range(pp)]
    table = _multi_stage(kind, pp, vpp, num_microbatches)
    if table is None:
        return None
    return [",".join(_cells(table[rank])) for rank in range(pp)]


def _single_stage(kind, rank: int, pp: int, num_microbatches: int) -> str:  # noqa: ANN001
    """Let a schedule run its step on a stage that only writes down what it is told.

    The tables of ``_get_pipeline_order`` are for display: that of 1F1B counts the last rank's forward
    passes from 1 instead of 0 (torch 2.13.0), while the step itself counts from 0.
    """
    done: list[str] = []

    def forward(number: int, *_args: object, **_keywords: object) -> None:
        done.append(f"{rank}F{number}")

    def backward(number: int, *_args: object, **_keywords: object) -> None:
        done.append(f"{rank}B{number}")

    class Stage:
        stage_index, num_stages, has_backward, is_last, is_first = rank, pp, True, rank == pp - 1, rank == 0
        forward_one_chunk, backward_one_chunk = staticmethod(forward), staticmethod(backward)

        def __getattr__(self, name: str) -> object:
            return lambda *_args, **_keywords: []

    blank = [None] * num_microbatches

    class Fake:
        _n_microbatches, _num_stages, _stage = num_microbatches, pp, Stage()
        _has_backward, scale_grads = True, False
        _stage_forward_initialized = _stage_backward_initialized = True

        def _check_inputs(self, *_args: object) -> tuple[list[object], list[object]]:
            return blank, blank

        def __getattr__(self, name: str) -> object:
            return lambda *_args, **_keywords: None

    kind._step_microbatches(Fake())
    return ",".join(done)


def _multi_stage(kind, pp: int, vpp: int, num_microbatches: int):  # noqa: ANN001, ANN202
    """Let a schedule compute its table without process groups: its constructor's own steps, on stand-ins."""
    rounds = max(1, num_microbatches // pp)
    stages = [SimpleNamespace(group_size=pp, group_rank=0)] * vpp
    fake = SimpleNamespace(
        pp_group_size=pp,
        _stages=stages,
        n_local_stages=vpp,
        num_stages=pp * vpp,
        _num_stages=pp * vpp,
        _n_microbatches=num_microbatches,
        number_of_rounds=rounds,
        microbatches_per_round=num_microbatches // rounds,
    )
    name = kind.__name__
    if "Interleaved" in name and num_microbatches % rounds:
        return None
    if name == "ScheduleDualPipeV" and num_microbatches < fake.num_stages:
        return None
    return {rank: kind._calculate_single_rank_operations(fake, rank) for rank in range(pp)}


def _cells(actions) -> Iterator[str]:  # noqa: ANN001
    return (str(action) for action in actions if action is not None and "REDUCE_GRAD" not in str(action))


def fact(rows: list[str]) -> list[str] | str:
    """Return the rows, or the hash of long ones."""
    text = "\n".join(rows)
    return rows if len(text) <= LONGEST else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def grid() -> Iterator[tuple[str, int, int, int]]:
    """Yield schedule, ranks, chunks per rank and micro-batches."""
    for name in NAMES:
        for pp in RANKS:
            for vpp in CHUNKS.get(name, (2, 3)):
                for num_microbatches in MICROBATCHES:
                    yield name, pp, vpp, num_microbatches


def main() -> None:
    """Print the facts as JSON, a line per shape; the text of each rank is hashed where it is long."""
    import torch
    from torch.distributed.pipelining import schedules

    facts = {}
    for shape in grid():
        rows = order(*shape)
        if rows is not None:
            facts[" ".join(map(str, shape))] = fact(rows)
    json.dump(
        {
            "source": f"torch {torch.__version__}, {inspect.getmodule(schedules).__name__}",
            "script": "tests/oracles/make_pytorch_schedules.py",
            "orders": facts,
        },
        sys.stdout,
        separators=(",", ":"),
    )


if __name__ == "__main__":
    main()
