"""Runs a program stream by stream: each goes on until an op of another one keeps it waiting.

Nothing is sorted and no successor is ever looked up, so one run costs little more than reading the program.
The loop is plain Python that numba can compile (see ``loops``); both do the same sums in the same order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.engines import stream_loop
from simulator.engines.jit import loops
from simulator.ragged import sorted_by

if TYPE_CHECKING:
    from simulator.workload.program import Bools, Floats, Ints, Program


_NEVER = -1.0
_FEW = 100
"""Ops up to which handing arrays to compiled code takes longer than running them."""


def run_streams(program: Program, seconds: Floats) -> tuple[Floats, Floats, Bools]:
    """Return when each op starts and ends, and which ops do: times of the others mean nothing.

    Args:
        program: The ops.
        seconds: Seconds of each op; a join takes as long as the longest of its ops.
    """
    count = program.num_ops
    queued, queue_start = program.in_queues()
    waits = (queue_start, queued, program.dependency_start, program.dependency, seconds)
    state = (np.full(count, -1), np.zeros(count), np.full(count, _NEVER))
    columns = (*waits, *_joins(program, seconds), *state)
    compiled = loops(count) if count > _FEW else None
    if compiled is not None:
        compiled.run_streams(*columns)
        _, start_s, end_s = state
    else:
        lists = [column.tolist() for column in columns]
        stream_loop.run_streams(*lists)
        start_s, end_s = np.array(lists[-2:], dtype=np.float64)
    return start_s, end_s, end_s >= 0.0


def _joins(program: Program, seconds: Floats) -> tuple[Ints, Ints, Ints, Ints, Floats]:
    """Return the join of each op, counted from 0; and of each its size, its ops and its seconds."""
    joined = np.flatnonzero(program.join >= 0)
    if not joined.size:
        none = np.zeros(0, dtype=np.int64)
        return program.join, none, np.zeros(1, dtype=np.int64), none, np.zeros(0)
    _, which, sizes = np.unique(program.join[joined], return_inverse=True, return_counts=True)
    joint = np.full(program.num_ops, -1)
    joint[joined] = which
    joint_s = np.zeros(len(sizes))
    np.maximum.at(joint_s, which, seconds[joined])
    return joint, sizes, np.concatenate(([0], np.cumsum(sizes))), joined[sorted_by(which)], joint_s
