"""One seeded error, tried: in a copy of the tree, against the tests that run its lines, until one fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from .covered import ROOT, read_log

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .covered import Covered
    from .mutants import Mutant

LIMIT_S = 60
"""CPU seconds of one error's tests."""
CLOCK_LIMIT_S = 4 * LIMIT_S
"""Where tests wait instead of computing, or other work keeps the cores."""
HANGS_S, HANGS_TIMES = 10.0, 5.0
"""A test hangs once it takes so many CPU seconds more than so many times what it takes without the error."""
FAILED = 1
"""pytest's exit code where tests failed; higher ones where none could be run."""
LOOPS = "simulator/engines/loops.py"
"""Its loops run as plain Python where one is changed: compiling them would take most of the time."""
COMPILER = "simulator/engines/jit.py"
"""Where it is changed, what numba compiled before counts no more."""

CRASHED = -11
"""Of a segmentation fault."""

Verdict = Literal["killed", "survived", "equivalent"]


@dataclass(frozen=True)
class Trial:
    """What became of one seeded error.

    Attributes:
        mutant: The error.
        verdict: "equivalent" if no test could tell it: counts in no rate.
        why: The test that failed or hung; the reason where the error is equivalent.
        tests: How many tests ended.
        out_of_time: Whether tests were left when the CPU seconds were spent.
        cpu_s: CPU seconds.
    """

    mutant: Mutant
    verdict: Verdict
    why: str = ""
    tests: int = 0
    out_of_time: bool = False
    cpu_s: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """Return all of it as plain data."""
        return {"key": self.mutant.key, **asdict(self)}


def copy_tree(folder: Path) -> Path:
    """Copy what tests read into a folder of its own; times stay, so that compiled files stay valid."""
    spared = shutil.ignore_patterns(".git", ".mutation", ".hypothesis", ".*_cache", ".venv")
    return shutil.copytree(ROOT, folder / "tree", ignore=spared)


def attempt(mutant: Mutant, tree: Path, covered: Covered) -> Trial:
    """Put an error into a copy of the tree, run the tests that cover its lines, and take it out again."""
    file = tree / mutant.path
    source, state = file.read_text(), file.stat()
    tests = covered.of(mutant.path, mutant.lines)
    spent = accumulate(covered.cpu_s[test] for test in tests)
    tests = [test for test, total in zip(tests, spent, strict=True) if total - covered.cpu_s[test] < LIMIT_S]
    if mutant.path == COMPILER:
        for compiled in file.parent.glob("__pycache__/*.nb[ci]"):
            compiled.unlink()
    file.write_text(mutant.applied(source))
    try:
        code, log, output = run_tests(tree, tests, LIMIT_S, plain_loops=mutant.path == LOOPS)
    finally:
        file.write_text(source)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    return judge(mutant, covered, code, log, output)


def judge(mutant: Mutant, covered: Covered, code: int | None, log: Path, output: str) -> Trial:
    """Say what an exit code and a log mean: ``None`` is a session that was ended on the clock."""
    seconds, failed = read_log(log)
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    last = entries[-1] if entries else {"at_s": 0.0}
    cpu_s = last["at_s"] if code is not None and code >= 0 else float(LIMIT_S)
    if code == 0:
        return Trial(mutant, "survived", tests=len(seconds), cpu_s=cpu_s)
    if failed:
        return Trial(mutant, "killed", min(failed), len(seconds), cpu_s=cpu_s)
    if code is not None and (code >= FAILED or code == CRASHED):
        return Trial(mutant, "killed", f"no test runs: {output.strip().splitlines()[-1:]}", cpu_s=cpu_s)
    running = last.get("test", "") if "begun" in last else ""
    if running and cpu_s - last["at_s"] > HANGS_S + HANGS_TIMES * covered.cpu_s[running]:
        return Trial(mutant, "killed", f"hangs: {running}", len(seconds), cpu_s=cpu_s)
    return Trial(mutant, "survived", tests=len(seconds), out_of_time=True, cpu_s=cpu_s)


def run_tests(
    tree: Path, tests: Sequence[str], limit_s: int | None, *, plain_loops: bool
) -> tuple[int | None, Path, str]:
    """Run tests in the order given until one fails; without a limit: all of them.

    Returns:
        The exit code (``None``: ended on the clock), the file of the log, what pytest printed.
    """
    log, arguments, printed = (tree.parent / name for name in ("log", "tests", "printed"))
    log.unlink(missing_ok=True)
    arguments.write_text("\n".join(tests))
    command = [sys.executable, "-m", "pytest", "-p", "tests.mutation.plugin", "-p", "no:cacheprovider"]
    command += ["--tb=no", *(["-x"] if limit_s else []), f"@{arguments}"]
    own = {
        "PYTHONPATH": f"{tree}{os.pathsep}{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MUTATION_LOG": str(log),
    }
    own |= {"NUMBA_DISABLE_JIT": "1"} if plain_loops else {}
    own |= {"MUTATION_LIMIT_S": str(limit_s)} if limit_s else {}
    with printed.open("w") as file:
        try:
            done = subprocess.run(
                command,
                cwd=tree,
                env={**os.environ, **own},
                stdout=file,
                stderr=file,
                check=False,
                timeout=CLOCK_LIMIT_S if limit_s else None,
            )
            code: int | None = done.returncode
        except subprocess.TimeoutExpired:
            code = None
    return code, log, printed.read_text()
