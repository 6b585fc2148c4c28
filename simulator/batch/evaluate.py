"""Many scenarios at once: step time and peak memory of each, and nothing that a search does not ask for."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from simulator import api
from simulator.batch.configuration import configure, shares_layouts
from simulator.batch.run import Row, run_together
from simulator.engines.jit import has_numba
from simulator.errors import SimulatorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from simulator.batch.configuration import Configuration
    from simulator.scenario import Scenario
    from simulator.workload.step.structure import Structure

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluations:
    """What becomes of scenarios, as columns in their order.

    Attributes:
        step_time_s: Seconds of one step; nan where there is a problem, as in the other columns.
        least_s: Seconds that the step takes at least, whatever engine runs it; see ``least_step_time_s``.
        tokens_per_s: Tokens that the whole job trains on per second.
        peak_memory_bytes: What the pipeline rank with the least room holds at its peak.
        capacity_bytes: Memory of a GPU of that rank.
        problems: Why a scenario cannot be simulated; empty where it can.
    """

    step_time_s: Floats
    least_s: Floats
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
    share most of the work, those of one structure (schedule, pp, vpp, micro-batches) also their ops. Order
    does not matter. Without numba every scenario is simulated by itself.
    """
    rows = np.full((len(Row._fields), len(scenarios)), np.nan)
    problems = [""] * len(scenarios)
    groups: dict[Structure, list[tuple[int, Configuration]]] = {}
    quick = has_numba()
    with _no_collection():
        for number, scenario in enumerate(scenarios):
            try:
                if quick and shares_layouts(scenario):
                    made = configure(scenario)
                    groups.setdefault(made.structure, []).append((number, made))
                else:
                    rows[:, number] = _simulated(scenario)
            except SimulatorError as error:
                problems[number] = str(error)
    for members in groups.values():
        numbers, made_ = zip(*members, strict=True)
        rows[:, list(numbers)] = run_together(made_)
    return Evaluations(**dict(zip(Row._fields, rows, strict=True)), problems=tuple(problems))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let the garbage collector rest: what is built stays, and it would look through it again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _simulated(scenario: Scenario) -> Row:
    result = api.simulate(replace(scenario, engine="compiled"))
    metrics, memory = result.metrics, result.memory
    return Row(
        step_time_s=metrics["step_time_s"],
        least_s=api.least_step_time_s(api.timed_step(scenario), scenario),
        tokens_per_s=metrics["tokens_per_s"],
        peak_memory_bytes=memory.peak_bytes,
        capacity_bytes=memory.capacity_bytes,
    )
