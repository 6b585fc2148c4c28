"""ZB-1p: the automatic zero-bubble schedule with the memory of 1F1B (Qi et al., arXiv:2401.10241)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.schedules.automatic import automatic
from simulator.schedules.schedule import Request, Schedule

if TYPE_CHECKING:
    from simulator.schedules.action import Order


def zb_1p(request: Request) -> Order:
    """Return the order for activations of at most ``p`` micro-batches per rank."""
    return automatic(request, limit=request.pp)


SCHEDULE = Schedule(
    name="zb-1p",
    order=zb_1p,
    source="arXiv:2401.10241",
    splits_backward=True,
    uses_times=True,
    post_validates=True,
)
