"""A scenario's pipeline schedule: the order of passes on every rank."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from simulator.schedules import SCHEDULES, Overlapped, Request, passes
from simulator.schedules.columns import Passes
from simulator.schedules.csv_form import CUSTOM, read_rows
from simulator.schedules.in_pairs import PAIRED, in_pairs
from simulator.schedules.with_vocabulary import with_vocabulary

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.schedules import Order, StageTimes


def pipeline_order(scenario: Scenario, times: StageTimes | None = None) -> Order:
    """Return what every pipeline rank does, in its order.

    Args:
        scenario: The request.
        times: How long passes take; equal times where they are not known.
    """
    parallelism = scenario.parallelism
    if parallelism.schedule == CUSTOM:
        return read_rows(parallelism.schedule_rows)
    request = Request(
        pp=parallelism.pp,
        vpp=parallelism.vpp,
        num_microbatches=scenario.num_microbatches,
        group_size=parallelism.microbatch_group_size,
        times=times,
    )
    if parallelism.vocabulary != "none":
        return with_vocabulary(SCHEDULES[parallelism.schedule], request, parallelism.vocabulary)
    order = SCHEDULES[parallelism.schedule].order(request)
    return in_pairs(order) if runs_in_pairs(scenario) else order


def runs_in_pairs(scenario: Scenario) -> bool:
    """Tell whether forward and backward passes run together to hide the exchanges among experts."""
    wanted = scenario.training.overlap.ep and scenario.model.experts is not None
    return wanted and scenario.parallelism.ep > 1 and scenario.parallelism.schedule in PAIRED


def splits_backward(scenario: Scenario) -> bool:
    """Tell whether weight gradients are passes of their own."""
    parallelism = scenario.parallelism
    if parallelism.schedule == CUSTOM:
        return any("I" in row for row in parallelism.schedule_rows)
    return SCHEDULES[parallelism.schedule].splits_backward


def uses_times(scenario: Scenario) -> bool:
    """Tell whether the order of passes depends on how long they take."""
    name = scenario.parallelism.schedule
    return name != CUSTOM and (SCHEDULES[name].uses_times or scenario.parallelism.vocabulary != "none")


def held_stages(order: Order) -> tuple[tuple[int, ...], ...]:
    """Return the stages that each rank holds, in model order.

    >>> from simulator.schedules import SCHEDULES, Request
    >>> held_stages(SCHEDULES["zb-v"].order(Request(pp=2, vpp=2, num_microbatches=4)))
    ((0, 3), (1, 2))
    """
    return tuple(tuple(np.flatnonzero(np.bincount(actions.stage)).tolist()) for actions in plain(order))


def plain(order: Order) -> tuple[Passes, ...]:
    """Return an order with overlapped pairs as single passes."""
    return tuple(entries if isinstance(entries, Passes) else Passes.of(passes(entries)) for entries in order)


@cache
def pairs_passes(schedule: str) -> bool:
    """Tell whether a schedule itself runs forward and backward passes together, as DualPipe does."""
    if schedule not in SCHEDULES:
        return True
    chunks = SCHEDULES[schedule].chunks[0]
    order = SCHEDULES[schedule].order(Request(pp=2, vpp=chunks, num_microbatches=8))
    return any(isinstance(entry, Overlapped) for entries in order for entry in entries)
