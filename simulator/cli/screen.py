"""What goes to stdout and what to stderr."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from rich.console import Console, RenderableType
from rich.measure import Measurement

from simulator.errors import InputError

_WIDTH = 100
_WIDEST = 400
_console = partial(Console, highlight=False, markup=False, emoji=False)
"""Text as it is: brackets and colons in the names that users choose are no commands."""


def show(renderable: RenderableType) -> None:
    """Print a result for people; where stdout is no terminal, as plain text that is not cut off."""
    console = _console()
    if console.is_terminal:
        console.print(renderable)
        return
    wide = _console(width=_WIDEST)
    natural = Measurement.get(wide, wide.options, renderable).maximum
    text = io.StringIO()
    width = max(_WIDTH, min(natural, _WIDEST))
    _console(file=text, width=width).print(renderable)
    show_text("\n".join(line.rstrip() for line in text.getvalue().splitlines()))


def show_text(text: str) -> None:
    """Print a result as it is."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def show_json(value: object) -> None:
    """Print a result for programs."""
    show_text(json.dumps(value, indent=2, allow_nan=False))


def warn(warnings: Iterable[str]) -> None:
    """Print warnings to stderr."""
    for warning in warnings:
        sys.stderr.write(f"warning: {warning}\n")


def common(warnings: Sequence[Sequence[str]], what: str) -> Iterator[str]:
    """Yield each warning of many scenarios once; where not all have it, with the number of those that do.

    >>> list(common([["a", "b"], ["b"]], "points"))
    ['a (1 of 2 points)', 'b']
    """
    counts = Counter(text for each in warnings for text in each)
    for text, count in counts.items():
        yield text if count == len(warnings) else f"{text} ({count} of {len(warnings)} {what})"


def check_one_result(*, as_csv: bool, as_json: bool) -> None:
    """Refuse two results on stdout.

    Raises:
        InputError: CSV and JSON are both asked for there.
    """
    if as_csv and as_json:
        raise InputError("--csv - and --json both go to stdout; give --csv a file")


def note(text: str) -> None:
    """Print progress or a hint to stderr."""
    sys.stderr.write(f"{text}\n")
