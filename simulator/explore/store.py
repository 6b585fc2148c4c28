"""Results that last: one SQLite file, a record per scenario and version of the simulator.

A record is written in one transaction as soon as its point is done, so a process that is killed loses only
what it was working on; several processes may write to one file at once.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from contextlib import closing
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Self

from simulator.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

_WAIT_S = 60.0
_AGAIN_S = 0.02
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    key TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    record TEXT NOT NULL
) WITHOUT ROWID
"""
_AT_ONCE = 500


class RunStore:
    """A file of results; use it as a context."""

    def __init__(self, path: Path) -> None:
        """Open a store, or make one.

        Args:
            path: The file.

        Raises:
            InputError: It is no store, or cannot be written.
        """
        self._path = path
        try:
            self._connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
            self._prepare()
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def _prepare(self) -> None:
        """Make the table, in a file that others may be making too.

        SQLite does not wait where several connections change the journal of a new file together: it says that
        the file is locked, however long the timeout is.
        """
        deadline_s = time.monotonic() + _WAIT_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute(_SCHEMA)
                self._connection.execute("SELECT key, name, version, created, record FROM runs LIMIT 0")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline_s:
                    raise
                time.sleep(_AGAIN_S)
            else:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def __len__(self) -> int:
        with closing(self._connection.execute("SELECT count(*) FROM runs")) as rows:
            return int(rows.fetchone()[0])

    def put(self, key: str, name: str, record: str) -> None:
        """Keep a record; what is there already stays, for equal keys mean equal results.

        Raises:
            InputError: The file cannot be written.
        """
        values = (key, name, version(), record)
        try:
            self._connection.execute(
                "INSERT OR IGNORE INTO runs (key, name, version, record) VALUES (?, ?, ?, ?)", values
            )
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def known(self, keys: Iterable[str]) -> Mapping[str, str]:
        """Return the records that are there, by key."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, str] = {}
        for first in range(0, len(wanted), _AT_ONCE):
            some = wanted[first : first + _AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, record FROM runs WHERE key IN ({marks})"  # noqa: S608  question marks only
            try:
                found.update(self._connection.execute(query, some))
            except sqlite3.Error as error:
                raise self._refused(error) from error
        return found

    def _refused(self, error: sqlite3.Error) -> InputError:
        return InputError(f"{self._path}: cannot be used as a store of runs: {error}")


def run_key(digest: str) -> str:
    """Return the key of a scenario's result: its content, and the version of what simulated it.

    Args:
        digest: ``Scenario.digest()``.
    """
    return hashlib.sha256(f"{digest} {version()}".encode()).hexdigest()


@lru_cache(maxsize=1)
def version() -> str:
    """Name the simulator's version: that of the package, and a digest of its code and its catalogue.

    The digest tells development versions apart, whose results differ under one number.
    """
    root = Path(__file__).parent.parent
    content = hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *(root / "catalogue").rglob("*.yaml")]):
        content.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return f"{metadata.version('training-parallelism-simulator')}+{content.hexdigest()[:12]}"
