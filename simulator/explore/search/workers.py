"""Builds layers and simulates layouts, in this process or in a pool of workers."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from simulator.explore.search.local_workers import Processes
from simulator.explore.search.remote_workers import Cluster
from simulator.explore.search.tasks import Build, build, simulate, time_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from simulator.explore.execute import Backend
    from simulator.explore.search.layouts import Layouts
    from simulator.explore.search.subspaces import Origin
    from simulator.explore.search.tasks import Outcome, Place

Share = TypeVar("Share")
Answer = TypeVar("Answer")


class WorkerPool(Protocol):
    """Other processes with the layouts of a search."""

    @property
    def size(self) -> int:
        """Shares that a task is divided into."""

    @property
    def least(self) -> int:
        """Classes of layers that are worth asking for; fewer are built here when they are needed."""

    def map(self, run: Callable[[Sequence[Layouts], Share], Answer], shares: Sequence[Share]) -> list[Answer]:
        """Let processes work on shares with the layouts, each on the share of its index if possible."""


@dataclass(slots=True, kw_only=True)
class Workers:
    """Answers a search's questions about its layouts.

    Attributes:
        layouts: The layouts, by region.
        pool: Processes that share the work; None: this process alone.
    """

    layouts: Sequence[Layouts]
    pool: WorkerPool | None = None

    def build(
        self, region: int, wanted: Sequence[tuple[int, int]], *, with_topology: bool, timed: bool
    ) -> None:
        """Let classes of layers be built, or also timed, and put what they hold and take into the layouts.

        Args:
            region: Which layouts.
            wanted: Class and profile.
            with_topology: Whether they are classes whose ranks lie alike.
            timed: Whether to time them.
        """
        layouts = self.layouts[region]
        missing = [key for key in wanted if not layouts.knows(*key, with_topology=with_topology, timed=timed)]
        if self.pool is None or len(missing) < self.pool.least:
            return
        size = self.pool.size
        # A class always goes to the same process, which has built its layers before.
        shares = [tuple(key for key in missing if key[0] % size == index) for index in range(size)]
        tasks = [
            Build(region=region, wanted=share, with_topology=with_topology, timed=timed) for share in shares
        ]
        for task, answer in zip(tasks, self.pool.map(build, tasks), strict=True):
            for key, costs in zip(task.wanted, answer, strict=True):
                layouts.learn(*key, costs, with_topology=with_topology, timed=timed)

    def simulate(self, places: Sequence[Place]) -> list[Outcome]:
        """Simulate layouts."""
        if self.pool is None or len(places) < self.pool.size:
            return simulate(self.layouts, places)
        order = sorted(range(len(places)), key=lambda index: self._structure(places[index]))
        shares = [share.tolist() for share in np.array_split(order, self.pool.size)]
        answers = self.pool.map(simulate, [[places[index] for index in share] for share in shares])
        outcomes: dict[int, Outcome] = {}
        for share, answer in zip(shares, answers, strict=True):
            outcomes |= zip(share, answer, strict=True)
        return [outcomes[index] for index in range(len(places))]

    def time_steps(self, places: Sequence[Place]) -> list[float]:
        """Return the seconds of a step of each layout, by the engine of ``run``."""
        if self.pool is None or len(places) < self.pool.size:
            return time_steps(self.layouts, places)
        shares = [share.tolist() for share in np.array_split(np.arange(len(places)), self.pool.size)]
        answers = self.pool.map(time_steps, [[places[index] for index in share] for share in shares])
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
            yield Workers(layouts=layouts, pool=cluster)
    elif backend.jobs > 1:
        with Processes(layouts, backend.jobs) as processes:
            yield Workers(layouts=layouts, pool=processes)
    else:
        yield Workers(layouts=layouts)
