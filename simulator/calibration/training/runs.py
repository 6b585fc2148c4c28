"""Published runs as the fit sees them: which ones, their errors, and how these change with each constant."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator import api
from simulator.calibration.training.constants import Constant, applied, constants_of
from simulator.costs.system import System
from simulator.errors import SimulatorError
from simulator.validation import PUBLISHED, read_rows, to_scenario
from simulator.validation.compare import compare

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from simulator.scenario import Scenario
    from simulator.validation.rows import RawRow

MOST_RUNS = 48
"""Runs taken of each source: enough to tell its trends, and a fit stays a matter of minutes."""
_SLOW_SHARE = 0.25
_SCHEDULES = ("1f1b", "interleaved")


@dataclass(frozen=True, slots=True)
class Run:
    """A published run that can be simulated."""

    row: RawRow
    scenario: Scenario

    @property
    def source(self) -> str:
        """Where it was published."""
        return self.row.source


@dataclass(frozen=True, slots=True)
class Response:
    """What a run says at given constants.

    Attributes:
        log_error: Logarithm of predicted over published throughput.
        slopes: Its derivative by the logarithm of each constant.
    """

    log_error: float
    slopes: Mapping[Constant, float]


def published_runs() -> list[Run]:
    """Return the published runs that can be turned into scenarios, thinned by source."""
    sources: dict[str, list[Run]] = defaultdict(list)
    for row in read_rows([PUBLISHED]):
        try:
            scenario, _ = to_scenario(row.parsed())
        except SimulatorError:
            continue
        sources[row.source].append(Run(row, scenario))
    return [run for members in sources.values() for run in _thinned(members)]


def _thinned(runs: Sequence[Run]) -> list[Run]:
    """Take runs evenly spread over a file; fewer where they test a schedule, for these take long."""
    simple = all(run.scenario.parallelism.schedule in _SCHEDULES for run in runs)
    simple &= all(run.scenario.parallelism.vocabulary == "none" for run in runs)
    count = min(len(runs), MOST_RUNS if simple else int(MOST_RUNS * _SLOW_SHARE))
    return [runs[index * len(runs) // count] for index in range(count)]


def log_error(run: Run, values: Mapping[Constant, float]) -> float:
    """Return the logarithm of predicted over published throughput; nan where it cannot be simulated."""
    scenario = applied(run.scenario, values)
    try:
        return math.log1p(compare(run.row.parsed(), scenario, api.simulate(scenario, quick=True)).error)
    except SimulatorError:
        return math.nan


def response(run: Run, values: Mapping[Constant, float]) -> Response:
    """Return a run's error and how it changes with each of its constants, by finite differences.

    What ranks do depends on none of them, so the step is laid out once.
    """
    error = log_error(run, values)
    if math.isnan(error):
        return Response(error, {})
    scenario = applied(run.scenario, values)
    step = api.timed_step(scenario, System.of(scenario))
    here_s = api.step_time_s(step, scenario)
    slopes = {}
    for constant in constants_of(run.scenario):
        change = constant.quantity.step
        moved_s = api.step_time_s(step, constant.apply(scenario, values[constant] * (1.0 + change)))
        slopes[constant] = math.log(here_s / moved_s) / math.log1p(change)
    return Response(error, slopes)


def all_constants(runs: Iterable[Run]) -> list[Constant]:
    """Return every constant that one of the runs depends on, in a fixed order."""
    found = {constant for run in runs for constant in constants_of(run.scenario)}
    return sorted(found, key=lambda constant: (constant.group, constant.owner))
