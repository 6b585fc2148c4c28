"""Interleaved zero bubble: ZB-H1 (Qi et al., arXiv:2401.10241) over several chunks per rank.

Backward passes are split. Input gradients take the place of backward passes; weight gradients follow as many
input gradients later as the rank's number, so that later ranks, which start late, fill the end of the step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.schedules.op_kind import OpKind
from simulator.schedules.rounds import RULE, fits_rounds, in_rounds, warm_up
from simulator.schedules.schedule import Request, Schedule

if TYPE_CHECKING:
    from simulator.schedules.action import Action, Order


def interleaved_zero_bubble(request: Request) -> Order:
    """Return, per rank, the order of forward passes, input gradients and weight gradients.

    >>> order = interleaved_zero_bubble(Request(pp=2, vpp=1, num_microbatches=3))
    >>> [" ".join(f"{'FBIW'[a.kind]}{a.microbatch}" for a in rank) for rank in order]
    ['F0 F1 I0 W0 F2 I1 W1 I2 W2', 'F0 I0 F1 I1 W0 F2 I2 W1 W2']
    """
    return tuple(_rank(request, rank) for rank in range(request.pp))


def _rank(request: Request, rank: int) -> tuple[Action, ...]:
    forward = list(in_rounds(request, rank, OpKind.FORWARD))
    inputs = list(in_rounds(request, rank, OpKind.BACKWARD_INPUT))
    weights = [action._replace(kind=OpKind.BACKWARD_WEIGHT) for action in inputs]
    ahead = warm_up(request, rank, per_hop=1)
    order = forward[:ahead]
    for number, action in enumerate(inputs):
        order += forward[ahead + number : ahead + number + 1]
        order.append(action)
        if number >= rank:
            order.append(weights[number - rank])
    return (*order, *weights[max(0, len(weights) - rank) :])


SCHEDULE = Schedule(
    name="interleaved-zb",
    order=interleaved_zero_bubble,
    source="arXiv:2401.10241; torch.distributed.pipelining ScheduleInterleavedZeroBubble",
    chunks=(1, None),
    splits_backward=True,
    fits=fits_rounds,
    rule=RULE,
    pytorch="InterleavedZeroBubble",
)
