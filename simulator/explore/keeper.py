"""What a sweep remembers of points that were simulated before."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from simulator import files
from simulator.errors import SimulatorError
from simulator.explore.point import SweepPoint, Task
from simulator.explore.store import RunStore, run_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Keeper:
    """Keeps the points of a sweep in a store, if there is one, under the content of their scenarios."""

    def __init__(self, store: RunStore | None, tasks: Sequence[Task]) -> None:
        self._store = store
        self._tasks = tasks
        self._keys = [_key(task) for task in tasks] if store is not None else []

    def known(self) -> dict[int, SweepPoint]:
        """Return the points that the store holds, by position."""
        records = self._store.known(self._keys) if self._store is not None else {}
        return {
            number: SweepPoint.from_record(records[key])
            for number, key in enumerate(self._keys)
            if key in records
        }

    def keep(self, number: int, point: SweepPoint) -> None:
        """Write the point at a position."""
        if self._store is not None:
            self._store.put(self._keys[number], self._tasks[number].name, point.to_record())


@contextmanager
def keeper_of(path: str | Path | None, tasks: Sequence[Task]) -> Iterator[Keeper]:
    """Open a store, or do without one."""
    if path is None:
        yield Keeper(None, tasks)
        return
    with RunStore(Path(path)) as store:
        yield Keeper(store, tasks)


def _key(task: Task) -> str:
    """Return a task's key: its scenario's content, or the reason why its settings make no scenario.

    The varied settings belong to it, for they are columns of the point's row.
    """
    try:
        content = files.from_document(task.named, overrides=task.overrides).digest()
    except SimulatorError as error:
        content = f"{files.from_document(task.named).digest()} {error}"
    return run_key(f"{content} {task.overrides}")
