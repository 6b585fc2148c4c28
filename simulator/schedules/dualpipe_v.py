"""DualPipeV: DualPipe cut in half (Sea AI Lab; deepseek-ai/DualPipe ``dualpipev.py``), in the shape of a V.

Rank r holds stages r and 2p - 1 - r. Forward and backward passes of different micro-batches run together,
so that one hides the other's communication.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.schedules.eight_steps import eight_steps
from simulator.schedules.schedule import Request, Schedule

if TYPE_CHECKING:
    from simulator.schedules.action import Order


def dualpipe_v(request: Request) -> Order:
    """Return, per rank, its passes and overlapped pairs of passes."""
    return tuple(
        tuple(
            eight_steps(
                rank,
                request.stages - 1 - rank,
                place=rank,
                ranks=request.pp,
                microbatches=request.num_microbatches,
            )
        )
        for rank in range(request.pp)
    )


def _fits(request: Request) -> bool:
    return request.num_microbatches >= 2 * request.pp


SCHEDULE = Schedule(
    name="dualpipe-v",
    order=dualpipe_v,
    source="arXiv:2412.19437; deepseek-ai/DualPipe",
    chunks=(2, 2),
    splits_backward=True,
    fits=_fits,
    rule="at least 2 x pp micro-batches",
    pytorch="DualPipeV",
)
