"""Local processes that inherit the layouts of a search; each keeps what it has built for the next task."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, TypeVar

from simulator.errors import SimulationError
from simulator.explore.execute import PROCESS_LOST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from simulator.explore.search.layouts import Layouts

Share = TypeVar("Share")
Answer = TypeVar("Answer")
_own: list[Layouts] = []
"""The layouts that this process works on, where it is a worker."""


class Processes:
    """A pool of local processes; use it as a context.

    Tasks of joblib go to whoever is free. Here each share of a space has its process, which has built its
    layers before and got the layouts by forking.
    """

    def __init__(self, layouts: Sequence[Layouts], jobs: int) -> None:
        self.size = self.least = jobs
        ways = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork" if "fork" in ways else None)
        self._pools = [
            ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(list(layouts),))
            for _ in range(jobs)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in self._pools:
            pool.shutdown(wait=kind is None, cancel_futures=True)

    def map(self, run: Callable[[Sequence[Layouts], Share], Answer], shares: Sequence[Share]) -> list[Answer]:
        """Let each share be worked on by its process.

        Raises:
            SimulationError: One of them was killed.
        """
        try:
            waiting = [pool.submit(_run, run, share) for pool, share in zip(self._pools, shares, strict=True)]
            return [each.result() for each in waiting]
        except BrokenProcessPool as error:
            raise SimulationError(PROCESS_LOST) from error


def _begin(layouts: list[Layouts]) -> None:
    _own[:] = layouts


def _run(run: Callable[[Sequence[Layouts], Share], Answer], share: Share) -> Answer:
    return run(_own, share)
