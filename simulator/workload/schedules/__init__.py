"""Pipeline schedules: each file yields the ordered actions of every rank and nothing else.

To add one, write a function from ``(pp, vpp, num_microbatches)`` to actions per rank and name it in
``SCHEDULES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from simulator.workload.schedules.action import Action
from simulator.workload.schedules.interleaved import interleaved
from simulator.workload.schedules.one_f_one_b import one_f_one_b

Schedule = Callable[[int, int, int], tuple[tuple[Action, ...], ...]]

SCHEDULES: Mapping[str, Schedule] = {
    "1f1b": one_f_one_b,
    "interleaved": interleaved,
}

__all__ = ["SCHEDULES", "Action", "Schedule"]
