"""Pipeline schedules: each file yields the ordered actions of every rank and nothing else.

To add one, put a file into this folder that defines ``SCHEDULE``; nothing else has to change.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from simulator.schedules.action import Action, Entry, Order, Overlapped, passes
from simulator.schedules.schedule import Request, Schedule, StageTimes

if TYPE_CHECKING:
    from collections.abc import Mapping


def _found() -> dict[str, Schedule]:
    """Return the schedules that the files of this folder define, by name."""
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    schedules = (getattr(module, "SCHEDULE", None) for module in modules)
    return {schedule.name: schedule for schedule in schedules if isinstance(schedule, Schedule)}


SCHEDULES: Mapping[str, Schedule] = _found()

__all__ = [
    "SCHEDULES",
    "Action",
    "Entry",
    "Order",
    "Overlapped",
    "Request",
    "Schedule",
    "StageTimes",
    "passes",
]
