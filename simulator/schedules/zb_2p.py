"""ZB-2p: the automatic zero-bubble schedule with twice 1F1B's memory (Qi et al., arXiv:2401.10241)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.schedules.automatic import automatic
from simulator.schedules.schedule import Request, Schedule

if TYPE_CHECKING:
    from simulator.schedules.action import Order


def zb_2p(request: Request) -> Order:
    """Return the order for activations of at most ``2p`` micro-batches per rank."""
    return automatic(request, limit=2 * request.pp)


SCHEDULE = Schedule(
    name="zb-2p",
    order=zb_2p,
    source="arXiv:2401.10241",
    splits_backward=True,
    uses_times=True,
    post_validates=True,
)
