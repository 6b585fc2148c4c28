"""GPipe (Huang et al., arXiv:1811.06965): all forward passes, then all backward passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.schedules.columns import Passes
from simulator.schedules.op_kind import OpKind
from simulator.schedules.schedule import Request, Schedule

if TYPE_CHECKING:
    from simulator.schedules.action import Order


def gpipe(request: Request) -> Order:
    """Return, per rank, all forward passes and then all backward passes, each in order of micro-batches.

    >>> [f"{a.kind.name[0]}{a.microbatch}" for a in gpipe(Request(pp=2, vpp=1, num_microbatches=2))[0]]
    ['F0', 'F1', 'B0', 'B1']
    """
    forward = [
        Passes.of_kind(OpKind.FORWARD, rank, range(request.num_microbatches)) for rank in range(request.pp)
    ]
    return tuple(Passes.joined(passes, passes.with_kind(OpKind.BACKWARD)) for passes in forward)


SCHEDULE = Schedule(name="gpipe", order=gpipe, source="arXiv:1811.06965", pytorch="GPipe")
