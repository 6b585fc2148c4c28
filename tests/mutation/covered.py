"""Which tests run each line, and for how long: recorded once, read in every round.

The record lies in ``.mutation/`` and is made anew once code or tests differ from those that it was made with.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT = Path(__file__).parents[2]
STORE = ROOT / ".mutation"
RECORD = STORE / "covered.json"
LOG = STORE / "covered.log"
CLUSTERS = "*_machines.py"
"""Tests that start clusters: their limits are seconds on the clock, which a round on all cores exceeds."""
CONFIGURATION = """\
[run]
data_file = {data}
parallel = true
source = {source}
context = ${{MUTATION_TEST-}}
"""


@dataclass(frozen=True)
class Covered:
    """What the tests cover.

    Attributes:
        tests: By path and line: tests that run it.
        cpu_s: CPU seconds of each test that passes.
        lines: How many lines each test runs.
    """

    tests: Mapping[str, Mapping[int, frozenset[str]]]
    cpu_s: Mapping[str, float]
    lines: Mapping[str, int]

    def of(self, path: str, lines: Iterable[int]) -> list[str]:
        """Return the tests that run one of the lines, the quickest and most specific first."""
        by_line = self.tests.get(path, {})
        tests = {test for line in lines for test in by_line.get(line, ())}
        return sorted(tests, key=lambda test: (self.cpu_s[test] * self.lines[test], test))


def covered(jobs: int) -> Covered:
    """Return which tests run each line; run all of them first if the record is older than code or tests."""
    state = _state()
    if not RECORD.exists() or json.loads(RECORD.read_text())["state"] != state:
        record(jobs)
        RECORD.write_text(json.dumps({"state": state, **_read()}))
    content = json.loads(RECORD.read_text())
    names = content["tests"]
    tests = {
        path: {int(line): frozenset(names[test] for test in ran) for line, ran in lines.items()}
        for path, lines in content["files"].items()
    }
    counts: dict[str, int] = defaultdict(int)
    for lines in tests.values():
        for ran in lines.values():
            for test in ran:
                counts[test] += 1
    return Covered(tests=tests, cpu_s=content["cpu_s"], lines=counts)


def record(jobs: int) -> None:
    """Run all tests under coverage.py; loops for numba run as plain Python, so that their lines are seen."""
    STORE.mkdir(exist_ok=True)
    for old in (LOG, *STORE.glob("coverage*")):
        old.unlink(missing_ok=True)
    configuration = STORE / "coveragerc"
    configuration.write_text(CONFIGURATION.format(data=STORE / "coverage", source=ROOT / "simulator"))
    command = [sys.executable, "-m", "pytest", "-p", "tests.mutation.plugin", "-p", "no:cacheprovider"]
    command += ["-n", str(jobs), f"--ignore-glob={CLUSTERS}"]
    own = {"MUTATION_COVERAGE": str(configuration), "MUTATION_LOG": str(LOG), "NUMBA_DISABLE_JIT": "1"}
    subprocess.run(command, cwd=ROOT, env={**os.environ, **own}, check=False)  # tests that fail are left out


def _read() -> dict[str, object]:
    """Return what coverage.py and the log recorded: names of tests, their CPU seconds, tests by line."""
    from coverage import CoverageData

    seconds, failed = read_log(LOG)
    passed = {test: cpu_s for test, cpu_s in seconds.items() if test not in failed}
    index = {test: number for number, test in enumerate(passed)}
    files: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for part in STORE.glob("coverage.*"):
        data = CoverageData(str(part))
        data.read()
        for name in data.measured_files():
            path = Path(name).relative_to(ROOT).as_posix()
            for line, contexts in data.contexts_by_lineno(name).items():
                files[path][line] |= {
                    index[test] for text in contexts for test in _tests(text) if test in index
                }
    by_line = {
        path: {line: sorted(tests) for line, tests in lines.items() if tests} for path, lines in files.items()
    }
    return {"tests": list(passed), "cpu_s": passed, "files": by_line}


def _tests(context: str) -> tuple[str, ...]:
    """Return the test that a context names: processes that a test started write "test|"."""
    return context, context.removesuffix("|")


def read_log(path: Path) -> tuple[dict[str, float], set[str]]:
    """Return CPU seconds of each test that ended, and which failed."""
    entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    seconds = {entry["test"]: entry["cpu_s"] for entry in entries if "cpu_s" in entry}
    return seconds, {entry["test"] for entry in entries if "failed" in entry}


def _state() -> str:
    """Return a digest of all code and tests, this tool aside."""
    digest = hashlib.sha256()
    for folder in ("simulator", "tests", "scenarios"):
        for path in sorted((ROOT / folder).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            if path.is_file() and "__pycache__" not in name and not name.startswith("tests/mutation/"):
                digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()
