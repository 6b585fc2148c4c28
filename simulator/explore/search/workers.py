"""Local processes that build layers and simulate layouts; each keeps what it has built for the next task."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from simulator.errors import ScenarioError
from simulator.explore.evaluate import evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from types import TracebackType
    from typing import Self

    from simulator.explore.search.classes import Floats
    from simulator.explore.search.layouts import Layouts

    Place = tuple[int, int, int, int]

_own: list[Layouts] = []
"""The layouts that this process works on, where it is a worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one layout.

    Attributes:
        step_s: Seconds of a step; nan where there is a problem.
        memory_bytes: What its fullest GPU holds.
        fits: Whether it has that much.
        problem: Why it cannot be simulated; empty where it can.
    """

    step_s: float
    memory_bytes: float
    fits: bool
    problem: str = ""


@dataclass(slots=True)
class Workers:
    """Processes with the layouts of a search; none where one job is asked for, which is then done here.

    Attributes:
        layouts: The layouts, by region.
        jobs: How many processes.
    """

    layouts: Sequence[Layouts]
    jobs: int
    _pools: list[ProcessPoolExecutor] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Start the processes."""
        if self.jobs > 1:
            ways = multiprocessing.get_all_start_methods()
            context = multiprocessing.get_context("fork" if "fork" in ways else None)
            self._pools = [
                ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(list(self.layouts),))
                for _ in range(self.jobs)
            ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop them."""
        for pool in self._pools:
            pool.shutdown(wait=kind is None, cancel_futures=True)

    def build(self, region: int, wanted: Sequence[tuple[int, int]], *, placed: bool, timed: bool) -> None:
        """Let classes of layers be built, or also timed, and put what they hold and take into the layouts.

        Args:
            region: Which layouts.
            wanted: Class and profile.
            placed: Whether they are classes whose ranks lie alike.
            timed: Whether to time them.
        """
        layouts = self.layouts[region]
        left = [each for each in wanted if not layouts.knows(*each, placed=placed, timed=timed)]
        if not self._pools or len(left) < self.jobs:
            return
        # A class always goes to the same process, which has built its layers before.
        parts = [[each for each in left if each[0] % self.jobs == number] for number in range(self.jobs)]
        answers: list[Future[list[Floats]]] = [
            pool.submit(_build, region, part, placed, timed)
            for pool, part in zip(self._pools, parts, strict=True)
        ]
        for part, answer in zip(parts, answers, strict=True):
            for each, found in zip(part, answer.result(), strict=True):
                layouts.learn(*each, found, placed=placed, timed=timed)

    def simulate(self, places: Sequence[Place]) -> list[Outcome]:
        """Simulate layouts: region, shape, way of running layers and way of running steps of each."""
        if not self._pools or len(places) < self.jobs:
            return _simulated(self.layouts, places)
        order = sorted(range(len(places)), key=lambda number: self._structure(places[number]))
        parts = np.array_split(order, self.jobs)
        answers = [
            pool.submit(_simulate, [places[number] for number in part])
            for pool, part in zip(self._pools, parts, strict=True)
        ]
        found: dict[int, Outcome] = {}
        for part, answer in zip(parts, answers, strict=True):
            found |= zip(part.tolist(), answer.result(), strict=True)
        return [found[number] for number in range(len(places))]

    def _structure(self, place: Place) -> tuple[int, ...]:
        """Return what layouts with the same ops have in common; they are simulated together."""
        region, shape, _, _ = place
        shapes = self.layouts[region].space.shapes
        columns = (shapes.pp, shapes.vpp, shapes.microbatches, shapes.schedule)
        return (region, *(int(column[shape]) for column in columns))


def _begin(layouts: list[Layouts]) -> None:
    _own[:] = layouts


def _build(region: int, wanted: Sequence[tuple[int, int]], placed: bool, timed: bool) -> list[Floats]:
    layouts = _own[region]
    if timed:
        return [layouts.times(*each, placed=placed) for each in wanted]
    return [layouts.held(*each) for each in wanted]


def _simulate(places: Sequence[Place]) -> list[Outcome]:
    return _simulated(_own, places)


def _simulated(layouts: Sequence[Layouts], places: Sequence[Place]) -> list[Outcome]:
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
                memory_bytes=float(done.peak_memory_bytes[at]),
                fits=bool(done.fits[at]),
            )
        )
    return [outcomes[number] for number in range(len(places))]


def _failed(problem: str) -> Outcome:
    return Outcome(step_s=float("nan"), memory_bytes=float("nan"), fits=False, problem=problem)
