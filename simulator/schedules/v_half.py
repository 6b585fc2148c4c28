"""V-Half (Qi et al., arXiv:2405.15362, section 3): about half of the activation memory of 1F1B.

Rank r holds stages r and 2p - 1 - r.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.schedules.building_block import Block, repeated
from simulator.schedules.schedule import Request, Schedule

if TYPE_CHECKING:
    from simulator.schedules.action import Order


def v_half(request: Request) -> Order:
    """Return, per rank, the order of its passes."""
    pp = request.pp
    gap = 3 if pp % 2 == 0 else 0  # without it passes of different micro-batches would meet in a slot

    def block(rank: int) -> Block:
        return 2 * rank, 3 * pp - rank - 2, 3 * pp + gap + 2 * rank - 1, 6 * pp + gap - rank - 2

    return repeated(pp, request.num_microbatches, block)


SCHEDULE = Schedule(
    name="v-half", order=v_half, source="arXiv:2405.15362", chunks=(2, 2), splits_backward=True
)
