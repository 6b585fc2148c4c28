"""A round: errors drawn by a seed, each tried, and the share that some test noticed."""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from .covered import ROOT
from .mutants import mutants_of
from .trial import Trial, attempt, copy_tree, run_tests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .covered import Covered
    from .mutants import Mutant

EQUIVALENT = Path(__file__).parent / "equivalent.json"


def draw(folders: Sequence[str], covered: Covered, seed: int, count: int) -> list[Mutant]:
    """Draw errors in lines that some test runs, at most one a line.

    Args:
        folders: Of ``simulator/``.
        covered: Which tests run each line.
        seed: The same errors are drawn for the same seed and tree.
        count: How many.
    """
    mutants = [one for one in all_mutants(folders) if covered.of(one.path, one.lines)]
    random.Random(seed).shuffle(mutants)  # noqa: S311  to be repeated
    by_line = {(one.path, one.line): one for one in reversed(mutants)}
    return [one for one in mutants if by_line[one.path, one.line] is one][:count]


def all_mutants(folders: Sequence[str]) -> list[Mutant]:
    """Return every error of the files in some folders."""
    paths = sorted({path for folder in folders for path in (ROOT / "simulator" / folder).rglob("*.py")})
    return [one for path in paths for one in mutants_of(path.read_text(), path.relative_to(ROOT).as_posix())]


def run_round(mutants: Sequence[Mutant], covered: Covered, jobs: int) -> list[Trial]:
    """Try every error, some at a time, and print each as it ends."""
    reasons = json.loads(EQUIVALENT.read_text())
    scratch = Path(tempfile.mkdtemp(prefix="mutation-"))
    trees: SimpleQueue[Path] = SimpleQueue()
    for job in range(jobs):
        trees.put(copy_tree(scratch / str(job)))

    def tried(mutant: Mutant) -> Trial:
        if mutant.key in reasons:
            return Trial(mutant, "equivalent", reasons[mutant.key])
        tree = trees.get()
        try:
            trial = attempt(mutant, tree, covered)
        finally:
            trees.put(tree)
        print(f"{trial.verdict:10} {trial.cpu_s:5.1f} s  {mutant.key}", file=sys.stderr, flush=True)
        return trial

    try:
        with ThreadPoolExecutor(jobs) as pool:
            return without_false_alarms(list(pool.map(tried, mutants)), trees.get())
    finally:
        shutil.rmtree(scratch)


def without_false_alarms(trials: list[Trial], tree: Path) -> list[Trial]:
    """Run the tests that failed once more, without an error: one that fails then too has noticed nothing."""
    killers = sorted({trial.why for trial in trials if trial.verdict == "killed" and "::" in trial.why})
    killers = [test for test in killers if not test.startswith(("hangs: ", "no test runs: "))]
    failed: set[str] = set()
    for plain_loops in (False, True):
        code, log, printed = run_tests(tree, killers, None, plain_loops=plain_loops)
        if code:
            print(printed, file=sys.stderr)
            failed |= {
                entry["test"] for entry in map(json.loads, log.read_text().splitlines()) if "failed" in entry
            }
    return [
        Trial(trial.mutant, "survived", f"fails without the error too: {trial.why}", trial.tests)
        if trial.why in failed
        else trial
        for trial in trials
    ]


def table(trials: Sequence[Trial]) -> str:
    """Return the rates by folder, and every error that was not noticed."""
    folders: dict[str, list[Trial]] = {}
    for trial in trials:
        folders.setdefault("/".join(Path(trial.mutant.path).parts[1:-1]), []).append(trial)
    rows = [("folder", "drawn", "equivalent", "killed", "survived", "rate")]
    rows += [_row(folder, own) for folder, own in [*sorted(folders.items()), ("all", list(trials))]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    for verdict in ("survived", "equivalent"):
        for trial in trials:
            if trial.verdict == verdict:
                mutant, note = trial.mutant, trial.why or f"{trial.tests} tests"
                note += ", out of time" * trial.out_of_time
                lines.append(
                    f"{verdict}  {mutant.path}:{mutant.line}  {mutant.old} -> {mutant.new}  ({note})"
                )
    return "\n".join(line.rstrip() for line in lines)


def _row(folder: str, trials: Sequence[Trial]) -> tuple[str, ...]:
    counts = [
        sum(trial.verdict == verdict for trial in trials) for verdict in ("equivalent", "killed", "survived")
    ]
    judged = counts[1] + counts[2]
    rate = f"{100 * counts[1] / judged:.0f}%" if judged else "-"
    return folder, str(len(trials)), *map(str, counts), rate
