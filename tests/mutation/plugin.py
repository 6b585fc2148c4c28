"""What pytest does besides in a round of seeded errors: fixed examples, a log, coverage by test.

Hypothesis draws the same examples each time. Told by the environment:

    MUTATION_LOG       file to which each test's start, failure and CPU seconds are appended
    MUTATION_LIMIT_S   CPU seconds after which the session ends
    MUTATION_COVERAGE  configuration of coverage.py: lines are recorded with the test that runs them, also in
                       processes that the test starts
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from functools import _lru_cache_wrapper
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coverage import Coverage

RECORDER: pytest.StashKey[Coverage] = pytest.StashKey()
MEMORY_BYTES = 8 << 30
"""What a test with an error may take: some ask for arrays without end."""
KEPT = tuple(f"simulator.{name}" for name in ("catalogue", "documents", "files", "scenario", "engines.jit"))
"""Caches that stay from test to test: files take seconds to read, and none of them is changed in a round."""

settings.register_profile(
    "mutation", derandomize=True, deadline=None, phases=(Phase.explicit, Phase.generate)
)


def pytest_configure(config: pytest.Config) -> None:
    """Fix Hypothesis' examples before any test module is read; begin to record where tests run."""
    settings.load_profile("mutation")
    limit_s = os.environ.get("MUTATION_LIMIT_S")
    if limit_s:
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s), int(limit_s) + 1))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    configuration = os.environ.get("MUTATION_COVERAGE")
    is_controller = bool(config.getoption("numprocesses", 0)) and not hasattr(config, "workerinput")
    if not configuration or is_controller:
        return
    from coverage import Coverage

    recorder = Coverage(config_file=configuration)
    recorder.start()
    os.environ["COVERAGE_PROCESS_START"] = configuration  # read by coverage.py in processes that tests start
    config.stash[RECORDER] = recorder


def pytest_unconfigure(config: pytest.Config) -> None:
    """Write what was recorded."""
    recorder = config.stash.get(RECORDER, None)
    if recorder is not None:
        recorder.stop()
        recorder.save()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Log a test's start, and its CPU seconds when it ends."""
    recorder = item.config.stash.get(RECORDER, None)
    if recorder is not None:
        clear_caches()
        os.environ["MUTATION_TEST"] = item.nodeid
        recorder.switch_context(item.nodeid)
    begun = time.process_time()
    _log({"test": item.nodeid, "begun": True})
    result = yield
    if recorder is not None:
        recorder.switch_context("")
    _log({"test": item.nodeid, "cpu_s": time.process_time() - begun})
    return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Log failures: the first of them kills the mutant."""
    if report.failed and not hasattr(report, "node"):
        _log({"test": report.nodeid, "failed": True})


def clear_caches() -> None:
    """Forget results of cached functions: a test covers a line also where an earlier one ran it first."""
    for name, module in list(sys.modules.items()):
        if name.startswith("simulator") and not name.startswith(KEPT):
            for value in list(vars(module).values()):
                for cached in (value, *(vars(value).values() if isinstance(value, type) else ())):
                    if isinstance(cached, _lru_cache_wrapper):
                        cached.cache_clear()


def _log(entry: dict[str, object]) -> None:
    path = os.environ.get("MUTATION_LOG")
    if path:
        with Path(path).open("a") as file:
            file.write(json.dumps({**entry, "at_s": time.process_time()}) + "\n")
