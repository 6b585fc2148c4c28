"""``python -m simulator.validation.settle``: settles published rows in place."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING

from simulator.errors import SimulatorError
from simulator.validation.settle import settle
from simulator.validation.settle.rewrite import flow

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_COMMON = 20
"""Kinds of clauses that are counted by name at the end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Settle files and folders, list what was not read, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m simulator.validation.settle",
        description="Write what the notes of published rows say into keys of the rows (set:), in place.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file of rows, or a folder of them")
    parser.add_argument("--check", action="store_true", help="print what would be written, change no file")
    options = parser.parse_args(arguments)
    try:
        rows = settle(options.paths, write=not options.check)
    except SimulatorError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    clauses: Counter[str] = Counter()
    impossible: Counter[str] = Counter()
    for row in rows:
        lines = [f"  {flow(key)}: {flow(value)}" for key, value in row.keys.items()]
        lines += [f"  not possible: {text}" for text in row.impossible]
        lines += [f"  not read: {text}" for text in row.unread]
        clauses.update(row.unread)
        impossible.update(text.partition(": ")[0] for text in row.impossible)
        if lines:
            sys.stdout.write("\n".join([row.row.id, *lines, ""]))
    for title, counts in (("not possible", impossible), ("not read", clauses)):
        lines = [f"{count:5d}  {text}" for text, count in counts.most_common(MOST_COMMON)]
        sys.stdout.write("\n".join([f"{title}, the most frequent:", *lines, ""]) if lines else "")
    changed = sum(bool(row.keys) for row in rows)
    verb = "would change" if options.check else "changed"
    unread = sum(bool(row.unread) for row in rows)
    sys.stdout.write(
        f"{len(rows)} rows: {changed} {verb}; of {unread}, {len(clauses)} different clauses were not read\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
