"""GPipe (Huang et al., arXiv:1811.06965): all forward passes, then all backward passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.op_kind import OpKind
from simulator.workload.schedules.action import Action
from simulator.workload.schedules.schedule import Request, Schedule

if TYPE_CHECKING:
    from simulator.workload.schedules.action import Order


def gpipe(request: Request) -> Order:
    """Return, per rank, all forward passes and then all backward passes, each in order of micro-batches.

    >>> [f"{a.kind.name[0]}{a.microbatch}" for a in gpipe(Request(pp=2, vpp=1, num_microbatches=2))[0]]
    ['F0', 'F1', 'B0', 'B1']
    """
    kinds = (OpKind.FORWARD, OpKind.BACKWARD)
    microbatches = range(request.num_microbatches)
    return tuple(
        tuple(Action(kind, rank, microbatch) for kind in kinds for microbatch in microbatches)
        for rank in range(request.pp)
    )


SCHEDULE = Schedule(name="gpipe", order=gpipe, source="arXiv:1811.06965", pytorch="GPipe")
