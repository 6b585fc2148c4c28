"""How long each op of a step takes: a column of its table of costs, spread over its ops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.durations.price import with_routes
from simulator.durations.slot_table import FIXED_S, NETWORK_BYTES

if TYPE_CHECKING:
    from simulator.costs.system import System
    from simulator.engines.durations import Durations
    from simulator.workload.program import Floats
    from simulator.workload.step.build import Step


def step_durations(step: Step, costs: Floats, system: System) -> Durations:
    """Return how long every op of a step takes when nothing else uses its links.

    Args:
        step: The step.
        costs: [FIXED_S, NETWORK_BYTES or SHARE, slot] What its slots cost; see ``slot_costs``.
        system: The hardware and the software.
    """
    fixed_s, network_bytes = costs[[FIXED_S, NETWORK_BYTES]][:, step.structure.slot]
    return with_routes(step.program, system, fixed_s, network_bytes)
