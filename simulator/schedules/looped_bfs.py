"""Looped breadth-first pipeline (Lamy-Poirier, arXiv:2211.05953): chunk after chunk, all micro-batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.schedules.columns import Passes
from simulator.schedules.op_kind import OpKind
from simulator.schedules.schedule import Request, Schedule

if TYPE_CHECKING:
    from simulator.schedules.action import Order


def looped_bfs(request: Request) -> Order:
    """Return, per rank, all forward passes chunk by chunk, and all backward passes in the reverse order.

    >>> order = looped_bfs(Request(pp=2, vpp=2, num_microbatches=2))[1]
    >>> [f"{a.kind.name[0]}{a.microbatch}.{a.stage}" for a in order]
    ['F0.1', 'F1.1', 'F0.3', 'F1.3', 'B1.3', 'B0.3', 'B1.1', 'B0.1']
    """
    return tuple(_rank(request, rank) for rank in range(request.pp))


def _rank(request: Request, rank: int) -> Passes:
    stages, microbatches = np.meshgrid(
        range(rank, request.stages, request.pp), range(request.num_microbatches), indexing="ij"
    )
    forward = Passes.of_kind(OpKind.FORWARD, stages.reshape(-1), microbatches.reshape(-1))
    return Passes.joined(forward, forward[::-1].with_kind(OpKind.BACKWARD))


SCHEDULE = Schedule(
    name="looped-bfs",
    order=looped_bfs,
    source="arXiv:2211.05953",
    chunks=(1, None),
    pytorch="LoopedBFS",
)
