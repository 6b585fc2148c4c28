"""The workers of a Dask or Ray cluster as a search's pool.

What travels is plain data: the scenario's document once per task, classes or layouts by number, and what
became of them. A worker lays out the same space from the document when it first sees it, and keeps it; any
worker can so take over from one that dies.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Self, TypeVar

from simulator.explore.execute import pool_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from simulator.explore.execute import Backend, Pool
    from simulator.explore.search.layouts import Layouts
    from simulator.explore.search.subspaces import Origin

Share = TypeVar("Share")
Answer = TypeVar("Answer")
_LEAST = 64
"""Classes of layers that take longer to build here than messages to a cluster and back: a millisecond each,
against 40 of the latter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A pool of a cluster's workers.

    Attributes:
        origin: What the layouts were made of.
        pool: The workers.
    """

    origin: Origin
    pool: Pool

    @classmethod
    @contextmanager
    def of(cls, origin: Origin, backend: Backend) -> Iterator[Self]:
        """Connect to a cluster.

        Raises:
            InputError: As ``execute``.
        """
        with pool_of(backend) as pool:
            yield cls(origin=origin, pool=pool)

    @property
    def size(self) -> int:
        """One share for each worker."""
        return self.pool.workers

    @property
    def least(self) -> int:
        """See ``_LEAST``."""
        return _LEAST

    def map(self, run: Callable[[Sequence[Layouts], Share], Answer], shares: Sequence[Share]) -> list[Answer]:
        """Let each share be worked on by any worker."""
        tasks = [_Task(origin=self.origin, run=run, share=share) for share in shares]
        found: dict[int, Answer] = dict(self.pool.each(_run, tasks))
        return [found[number] for number in range(len(shares))]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    origin: Origin
    run: Callable[[Sequence[Layouts], Any], Any]
    share: object


_one_at_a_time = Lock()
"""Workers of Dask may run tasks in several threads; what a process remembers is made for one."""
_latest: list[tuple[Origin, list[Layouts]]] = []
"""The layouts that this process worked on last, and what they were made of."""


def _run(task: _Task) -> Any:  # noqa: ANN401  whatever the task's function returns
    with _one_at_a_time:
        if not _latest or _latest[0][0] != task.origin:
            _latest[:] = [(task.origin, [region.layouts for region in task.origin.regions().regions])]
        return task.run(_latest[0][1], task.share)
