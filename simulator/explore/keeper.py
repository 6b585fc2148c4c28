"""What is remembered of tasks that were done before, in a store of runs."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from simulator.explore.store import RunStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Given = TypeVar("Given")
Found = TypeVar("Found")


class Label(NamedTuple):
    """How a record stands in the store.

    Attributes:
        key: ``store.run_key`` of everything that decides it.
        name: What people call it.
    """

    key: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Records(Generic[Given, Found]):
    """How results of one kind are kept.

    Attributes:
        label: Names the record of a task.
        write: Writes a result as text, every bit of it.
        read: Reads it.
    """

    label: Callable[[Given], Label]
    write: Callable[[Found], str]
    read: Callable[[str], Found]


class Keeper(Generic[Given, Found]):
    """Keeps the results of tasks in a store, if there is one."""

    def __init__(
        self, store: RunStore | None, tasks: Sequence[Given], records: Records[Given, Found]
    ) -> None:
        self._store = store
        self._records = records
        self._labels = [records.label(task) for task in tasks] if store is not None else []

    def known(self) -> dict[int, Found]:
        """Return the results that the store holds, by position."""
        keys = [label.key for label in self._labels]
        records = self._store.known(keys) if self._store is not None else {}
        return {number: self._records.read(records[key]) for number, key in enumerate(keys) if key in records}

    def keep(self, number: int, found: Found) -> None:
        """Write the result of the task at a position."""
        if self._store is not None:
            self._store.put(*self._labels[number], self._records.write(found))


@contextmanager
def keeper_of(
    path: str | Path | None, tasks: Sequence[Given], records: Records[Given, Found]
) -> Iterator[Keeper[Given, Found]]:
    """Open a store, or do without one."""
    if path is None:
        yield Keeper(None, tasks, records)
        return
    with RunStore(Path(path)) as store:
        yield Keeper(store, tasks, records)
