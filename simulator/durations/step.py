"""How long each op of a step takes: its layers run by themselves, everything else priced by its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.durations.layers import sequence_seconds
from simulator.durations.price import price

if TYPE_CHECKING:
    from simulator.costs.system import System
    from simulator.engines.durations import Durations
    from simulator.workload.program import Program


def step_durations(program: Program, system: System) -> Durations:
    """Return how long every op of a step takes when nothing else uses its links."""
    return price(program, system, sequence_seconds(program, system))
