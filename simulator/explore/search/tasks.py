"""What the processes of a search do: build layers, and simulate layouts. Any process can, from plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator import api
from simulator.batch.evaluate import evaluate
from simulator.errors import ScenarioError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.explore.search.layer_classes import Floats
    from simulator.explore.search.layouts import Layouts

    Place = tuple[int, int, int, int]
    """Subspace, shape, way of running layers and way of running steps of a layout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one layout.

    Attributes:
        step_s: Seconds of a step by the compiled engine; nan where there is a problem.
        least_s: Seconds that it takes at least, whatever engine runs it.
        memory_bytes: What its fullest GPU holds.
        fits: Whether it has that much.
        problem: Why it cannot be simulated; empty where it can.
    """

    step_s: float
    least_s: float
    memory_bytes: float
    fits: bool
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Classes of layers to build, or also to time.

    Attributes:
        region: Which layouts.
        wanted: Class and profile.
        with_topology: Whether they are classes whose ranks lie alike.
        timed: Whether to time them.
    """

    region: int
    wanted: tuple[tuple[int, int], ...]
    with_topology: bool
    timed: bool


def build(layouts: Sequence[Layouts], task: Build) -> list[Floats]:
    """Return what the layers of each class hold, or take."""
    mine = layouts[task.region]
    if task.timed:
        return [mine.times(*each, with_topology=task.with_topology) for each in task.wanted]
    return [mine.held(*each) for each in task.wanted]


def simulate(layouts: Sequence[Layouts], places: Sequence[Place]) -> list[Outcome]:
    """Return what becomes of each layout."""
    scenarios, outcomes = [], dict[int, Outcome]()
    rows = []
    for number, (region, shape, layer, step) in enumerate(places):
        try:
            scenarios.append(layouts[region].scenario(shape, layer, step))
            rows.append(number)
        except ScenarioError as error:
            problem = error.problems[0]
            outcomes[number] = _failed(f"rule of {problem.path}")
    done = evaluate(scenarios)
    for at, number in enumerate(rows):
        outcomes[number] = (
            _failed(done.problems[at].splitlines()[0])
            if done.problems[at]
            else Outcome(
                step_s=float(done.step_time_s[at]),
                least_s=float(done.least_s[at]),
                memory_bytes=float(done.peak_memory_bytes[at]),
                fits=bool(done.fits[at]),
            )
        )
    return [outcomes[number] for number in range(len(places))]


def time_steps(layouts: Sequence[Layouts], places: Sequence[Place]) -> list[float]:
    """Return the seconds of a step of each layout as ``run`` says them, by its own engine."""
    scenarios = [layouts[region].scenario(shape, layer, step) for region, shape, layer, step in places]
    return [api.step_time_s(api.timed_step(scenario), scenario) for scenario in scenarios]


def _failed(problem: str) -> Outcome:
    nan = float("nan")
    return Outcome(step_s=nan, least_s=nan, memory_bytes=nan, fits=False, problem=problem)
