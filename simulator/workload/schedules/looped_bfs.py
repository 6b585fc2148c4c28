"""Looped breadth-first pipeline (Lamy-Poirier, arXiv:2211.05953): chunk after chunk, all micro-batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.op_kind import OpKind
from simulator.workload.schedules.action import Action
from simulator.workload.schedules.schedule import Request, Schedule

if TYPE_CHECKING:
    from simulator.workload.schedules.action import Order


def looped_bfs(request: Request) -> Order:
    """Return, per rank, all forward passes chunk by chunk, and all backward passes in the reverse order.

    >>> order = looped_bfs(Request(pp=2, vpp=2, num_microbatches=2))[1]
    >>> [f"{a.kind.name[0]}{a.microbatch}.{a.stage}" for a in order]
    ['F0.1', 'F1.1', 'F0.3', 'F1.3', 'B1.3', 'B0.3', 'B1.1', 'B0.1']
    """
    return tuple(_rank(request, rank) for rank in range(request.pp))


def _rank(request: Request, rank: int) -> tuple[Action, ...]:
    forward = [
        Action(OpKind.FORWARD, stage, microbatch)
        for stage in range(rank, request.stages, request.pp)
        for microbatch in range(request.num_microbatches)
    ]
    return (*forward, *(action._replace(kind=OpKind.BACKWARD) for action in reversed(forward)))


SCHEDULE = Schedule(
    name="looped-bfs",
    order=looped_bfs,
    source="arXiv:2211.05953",
    chunks=(1, None),
    pytorch="LoopedBFS",
)
