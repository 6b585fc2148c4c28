"""Interleaved 1F1B (Narayanan et al., arXiv:2104.04473, section 2.2.2), in Megatron-Core's order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.schedules.columns import one_forward_one_backward
from simulator.schedules.op_kind import OpKind
from simulator.schedules.rounds import RULE, fits_rounds, in_rounds, warm_up
from simulator.schedules.schedule import Request, Schedule

if TYPE_CHECKING:
    from simulator.schedules.action import Order
    from simulator.schedules.columns import Passes


def interleaved(request: Request) -> Order:
    """Return, per rank, the order of forward and backward passes of all its chunks.

    >>> actions = interleaved(Request(pp=2, vpp=2, num_microbatches=2))[0]
    >>> [f"{a.kind.name[0]}{a.microbatch}.{a.stage}" for a in actions]
    ['F0.0', 'F1.0', 'F0.2', 'F1.2', 'B0.2', 'B1.2', 'B0.0', 'B1.0']
    """
    return tuple(_rank(request, rank) for rank in range(request.pp))


def _rank(request: Request, rank: int) -> Passes:
    forward = in_rounds(request, rank, OpKind.FORWARD)
    backward = in_rounds(request, rank, OpKind.BACKWARD)
    return one_forward_one_backward(forward, backward, warm_up(request, rank, per_hop=2))


SCHEDULE = Schedule(
    name="interleaved",
    order=interleaved,
    source="arXiv:2104.04473; Megatron-Core pipeline_parallel/schedules.py",
    chunks=(2, None),
    fits=fits_rounds,
    rule=RULE,
    pytorch="Interleaved1F1B",
)
