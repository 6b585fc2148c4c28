"""Many scenarios at once: step time and peak memory of each, and nothing that a search does not ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from simulator import api
from simulator.errors import SimulatorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from simulator.scenario import Scenario

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluations:
    """What becomes of scenarios, as columns in their order.

    Attributes:
        step_time_s: Seconds of one step; nan where there is a problem, as in the other columns.
        tokens_per_s: Tokens that the whole job trains on per second.
        peak_memory_bytes: What the pipeline rank with the least room holds at its peak.
        capacity_bytes: Memory of a GPU of that rank.
        problems: Why a scenario cannot be simulated; empty where it can.
    """

    step_time_s: Floats
    tokens_per_s: Floats
    peak_memory_bytes: Floats
    capacity_bytes: Floats
    problems: tuple[str, ...]

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Whether every rank has enough memory; False where there is a problem."""
        return self.peak_memory_bytes <= self.capacity_bytes


def evaluate(scenarios: Sequence[Scenario]) -> Evaluations:
    """Return what ``simulate`` says of each scenario with the compiled engine, to 1e-9.

    Scenarios that share their model, cluster and software objects (made by ``dataclasses.replace`` of one)
    share most of the work. Order does not matter.
    """
    rows = np.full((4, len(scenarios)), np.nan)
    problems = []
    for number, scenario in enumerate(scenarios):
        try:
            result = api.simulate(replace(scenario, engine="compiled"))
        except SimulatorError as error:
            problems.append(str(error))
            continue
        problems.append("")
        metrics, memory = result.metrics, result.memory
        rows[:, number] = (
            metrics["step_time_s"],
            metrics["tokens_per_s"],
            memory.peak_bytes,
            memory.capacity_bytes,
        )
    step_time_s, tokens_per_s, peak_memory_bytes, capacity_bytes = rows
    return Evaluations(
        step_time_s=step_time_s,
        tokens_per_s=tokens_per_s,
        peak_memory_bytes=peak_memory_bytes,
        capacity_bytes=capacity_bytes,
        problems=tuple(problems),
    )
