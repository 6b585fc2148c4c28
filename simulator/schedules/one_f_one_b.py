"""1F1B: PipeDream-Flush (Narayanan et al., arXiv:2104.04473, section 2.2.1, figure 4 top)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.schedules.columns import Passes, one_forward_one_backward
from simulator.schedules.op_kind import OpKind
from simulator.schedules.schedule import Request, Schedule

if TYPE_CHECKING:
    from simulator.schedules.action import Order


def one_f_one_b(request: Request) -> Order:
    """Return, per rank, warm-up forwards, alternating forward and backward passes, and remaining backwards.

    >>> [f"{a.kind.name[0]}{a.microbatch}" for a in one_f_one_b(Request(pp=2, vpp=1, num_microbatches=3))[0]]
    ['F0', 'F1', 'B0', 'F2', 'B1', 'B2']
    """
    return tuple(_rank(rank, request.pp, request.num_microbatches) for rank in range(request.pp))


def _rank(rank: int, pp: int, num_microbatches: int) -> Passes:
    forward = Passes.of_kind(OpKind.FORWARD, rank, np.arange(num_microbatches))
    backward = forward.with_kind(OpKind.BACKWARD)
    return one_forward_one_backward(forward, backward, min(pp - 1 - rank, num_microbatches))


SCHEDULE = Schedule(name="1f1b", order=one_f_one_b, source="arXiv:2104.04473", pytorch="1F1B")
