"""Signs of life on stderr: what moves on a terminal, and a line now and then in the log of a job."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from simulator.cli.screen import note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_EVERY_S = 10.0
"""Seconds between lines, and before the first: what takes less time says nothing."""


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield what is told how many of a task's parts are done, and how many there are.

    Args:
        what: What the parts are, for example ``steps``.
    """
    if not sys.stderr.isatty():
        say = _now_and_then()
        yield lambda done, parts: say(f"{done:,} of {parts:,} {what}")
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, parts: bar.update(task, completed=done, total=parts)


@contextmanager
def told() -> Iterator[Callable[[str], None]]:
    """Yield what is told how far a task has come, in words: each time instead of the time before."""
    if not sys.stderr.isatty():
        yield _now_and_then()
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True, highlight=False).status("") as line:
        yield lambda text: line.update(escape(text))


@contextmanager
def kept(store: Path | None) -> Iterator[None]:
    """Say, when the user interrupts, that what is done is in the store, if there is one."""
    try:
        yield
    except KeyboardInterrupt:
        if store is not None:
            note(f"interrupted; the same command goes on with what {store} holds")
        raise


def _now_and_then() -> Callable[[str], None]:
    """Return what prints a line unless it printed another not long ago."""
    latest_s = time.monotonic()

    def say(text: str) -> None:
        nonlocal latest_s
        now_s = time.monotonic()
        if now_s >= latest_s + _EVERY_S:
            latest_s = now_s
            note(text)
            sys.stderr.flush()

    return say
