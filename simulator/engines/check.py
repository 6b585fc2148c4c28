"""What an engine refuses before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.errors import SimulationError

if TYPE_CHECKING:
    from simulator.engines.durations import Durations
    from simulator.workload.program import Floats, Program


def check(program: Program, durations: Durations) -> None:
    """Refuse numbers that no event can happen at.

    Raises:
        SimulationError: A duration, size or capacity is negative, infinite or missing.
    """
    if not len(durations.fixed_s) == len(durations.flow_bytes) == program.num_ops:
        raise SimulationError(f"{len(durations.fixed_s)} durations for {program.num_ops} ops")
    for what, numbers in (("seconds", durations.fixed_s), ("bytes to move", durations.flow_bytes)):
        check_numbers(program, what, numbers)
    capacity = durations.link_bytes_per_s
    wrong = ~(np.isfinite(capacity) & (capacity > 0.0))
    if wrong.any() and wrong[durations.route].any():
        link = int(durations.route[np.argmax(wrong[durations.route])])
        name = durations.link_names[link] if durations.link_names else str(link)
        raise SimulationError(f"link {name} has a capacity of {capacity[link]} bytes/s")


def check_numbers(program: Program, what: str, numbers: Floats) -> None:
    """Refuse numbers, with one per op along the last axis, of which one is negative, infinite or none.

    Raises:
        SimulationError: There is one.
    """
    if numbers.min(initial=0.0) >= 0.0 and numbers.max(initial=0.0) < np.inf:  # False for a nan too
        return
    wrong = np.argwhere(~(np.isfinite(numbers) & (numbers >= 0.0)))
    place = tuple(wrong[0].tolist())
    op = place[-1]
    raise SimulationError(f"op {op} ({program.label(op)}) has {numbers[place]} {what}")
