"""DualPipe (DeepSeek-V3, arXiv:2412.19437, section 3.2.1): micro-batches enter from both ends.

Rank r holds stage r for the first half of the micro-batches and stage p - 1 - r for the second half, so
that every stage has two copies of its parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.schedules.action import Action, Overlapped
from simulator.schedules.eight_steps import eight_steps
from simulator.schedules.schedule import Request, Schedule

if TYPE_CHECKING:
    from simulator.schedules.action import Entry, Order


def dualpipe(request: Request) -> Order:
    """Return, per rank, its passes and overlapped pairs of passes of both directions."""
    return tuple(tuple(_rank(request, rank)) for rank in range(request.pp))


def _rank(request: Request, rank: int) -> list[Entry]:
    pp, half = request.pp, request.num_microbatches // 2
    # ``eight_steps`` counts the stages of a rank apart: the reverse direction's are numbered from pp on.
    forth, back = rank, pp + pp - 1 - rank
    near, far = (forth, back) if rank < pp // 2 else (back, forth)
    place = min(rank, pp - 1 - rank)
    entries = eight_steps(near, far, place=place, ranks=pp // 2, microbatches=half)
    return [
        Overlapped(_placed(entry.forward, pp, half), _placed(entry.backward, pp, half))
        if isinstance(entry, Overlapped)
        else _placed(entry, pp, half)
        for entry in entries
    ]


def _placed(action: Action, pp: int, half: int) -> Action:
    """Number a pass by its stage in the model; the reverse direction runs the second half of the batch."""
    direction, stage = divmod(action.stage, pp)
    return Action(action.kind, stage, action.microbatch + direction * half)


def _fits(request: Request) -> bool:
    return (
        request.pp % 2 == 0
        and request.num_microbatches % 2 == 0
        and request.num_microbatches >= 2 * request.pp
    )


SCHEDULE = Schedule(
    name="dualpipe",
    order=dualpipe,
    source="arXiv:2412.19437; deepseek-ai/DualPipe",
    splits_backward=True,
    copies=2,
    fits=_fits,
    rule="an even number of pipeline ranks and an even number of micro-batches, at least 2 x pp",
)
