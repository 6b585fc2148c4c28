"""Who builds layers and simulates layouts: this process, or a crew that shares the work."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from simulator.explore.search.cluster import Cluster
from simulator.explore.search.processes import Processes
from simulator.explore.search.tasks import Build, build, simulate, time_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from simulator.explore.execute import Backend
    from simulator.explore.search.layouts import Layouts
    from simulator.explore.search.regions import Origin
    from simulator.explore.search.tasks import Outcome, Place

Part = TypeVar("Part")
Answer = TypeVar("Answer")


class Crew(Protocol):
    """Other processes with the layouts of a search."""

    @property
    def size(self) -> int:
        """Parts that a task is divided into."""

    @property
    def least(self) -> int:
        """Classes of layers that are worth asking for; fewer are built here when they are needed."""

    def ask(self, run: Callable[[Sequence[Layouts], Part], Answer], parts: Sequence[Part]) -> list[Answer]:
        """Let each part be worked on with the layouts; as far as possible, the same place by the same one."""


@dataclass(slots=True, kw_only=True)
class Workers:
    """Answers a search's questions about its layouts.

    Attributes:
        layouts: The layouts, by region.
        crew: Who helps; nobody where it is None.
    """

    layouts: Sequence[Layouts]
    crew: Crew | None = None

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
        if self.crew is None or len(left) < self.crew.least:
            return
        size = self.crew.size
        # A class always goes to the same process, which has built its layers before.
        shares = [tuple(each for each in left if each[0] % size == number) for number in range(size)]
        parts = [Build(region=region, wanted=share, placed=placed, timed=timed) for share in shares]
        for part, answer in zip(parts, self.crew.ask(build, parts), strict=True):
            for each, found in zip(part.wanted, answer, strict=True):
                layouts.learn(*each, found, placed=placed, timed=timed)

    def simulate(self, places: Sequence[Place]) -> list[Outcome]:
        """Simulate layouts."""
        if self.crew is None or len(places) < self.crew.size:
            return simulate(self.layouts, places)
        order = sorted(range(len(places)), key=lambda number: self._structure(places[number]))
        parts = [part.tolist() for part in np.array_split(order, self.crew.size)]
        answers = self.crew.ask(simulate, [[places[number] for number in part] for part in parts])
        found: dict[int, Outcome] = {}
        for part, answer in zip(parts, answers, strict=True):
            found |= zip(part, answer, strict=True)
        return [found[number] for number in range(len(places))]

    def time_steps(self, places: Sequence[Place]) -> list[float]:
        """Return the seconds of a step of each layout, by the engine of ``run``."""
        if self.crew is None or len(places) < self.crew.size:
            return time_steps(self.layouts, places)
        parts = [part.tolist() for part in np.array_split(np.arange(len(places)), self.crew.size)]
        answers = self.crew.ask(time_steps, [[places[number] for number in part] for part in parts])
        return [seconds for answer in answers for seconds in answer]

    def _structure(self, place: Place) -> tuple[int, ...]:
        """Return what layouts with the same ops have in common; they are simulated together."""
        region, shape, _, _ = place
        shapes = self.layouts[region].space.shapes
        columns = (shapes.pp, shapes.vpp, shapes.microbatches, shapes.schedule)
        return (region, *(int(column[shape]) for column in columns))


@contextmanager
def workers_of(layouts: Sequence[Layouts], origin: Origin, backend: Backend) -> Iterator[Workers]:
    """Start who works on layouts.

    Args:
        layouts: The layouts, by region.
        origin: What they were made of, from which other machines make them, too.
        backend: Where.

    Raises:
        InputError: As ``execute``.
    """
    if backend.engine != "local":
        with Cluster.of(origin, backend) as cluster:
            yield Workers(layouts=layouts, crew=cluster)
    elif backend.jobs > 1:
        with Processes(layouts, backend.jobs) as processes:
            yield Workers(layouts=layouts, crew=processes)
    else:
        yield Workers(layouts=layouts)
