"""ZB-V (Qi et al., arXiv:2401.10241, section 6): two chunks per rank in the shape of a V.

Rank r holds stages r and 2p - 1 - r. No bubble where forward passes, input and weight gradients take equally
long, with the memory of 1F1B.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.schedules.action import passes
from simulator.schedules.schedule import Request, Schedule
from simulator.schedules.writer import RankWriter

if TYPE_CHECKING:
    from simulator.schedules.action import Entry, Order


def zb_v(request: Request) -> Order:
    """Return, per rank, the order of the paper's figure 6.

    >>> order = zb_v(Request(pp=2, vpp=2, num_microbatches=1))
    >>> [" ".join(f"{'FBIW'[a.kind]}{a.stage}" for a in rank) for rank in order]
    ['F0 F3 I3 W3 I0 W0', 'F1 F2 I2 W2 I1 W1']
    """
    return tuple(_rank(request, rank) for rank in range(request.pp))


def _rank(request: Request, rank: int) -> tuple[Entry, ...]:
    pp, microbatches = request.pp, request.num_microbatches
    down, up = rank, request.stages - 1 - rank
    # Fewer micro-batches than fill the pipeline are those of a filled one, the others left out.
    filled = max(2 * pp - 1, microbatches)
    writer = RankWriter()
    writer.forward(down, times=2 * (pp - rank) - 1)
    for _ in range(rank):
        writer.forward(up)
        writer.forward(down)
    for _ in range(pp - rank):
        writer.forward(up)
        writer.split_backward(up)
    while writer.forwards(up) < filled:
        if writer.forwards(down) < filled:
            writer.forward(down)
        writer.split_backward(down)
        writer.forward(up)
        writer.split_backward(up)
    for _ in range(rank):
        writer.input_gradient(down)
        writer.input_gradient(up)
    for _ in range(pp - rank):
        writer.input_gradient(down)
        writer.weight_gradient(down)
    writer.weight_gradient(up, times=rank)
    writer.weight_gradient(down, times=rank)
    return tuple(action for action in passes(writer.entries) if action.microbatch < microbatches)


SCHEDULE = Schedule(
    name="zb-v",
    order=zb_v,
    source="arXiv:2401.10241, section 6",
    chunks=(2, 2),
    splits_backward=True,
    pytorch="ZBVZeroBubble",
)
