"""Published runs as the fit sees them: which ones, their errors, and how these change with each constant."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol

from simulator import api
from simulator.calibration.training.constants import Constant, applied, constants_of
from simulator.documents import parse
from simulator.errors import SimulatorError
from simulator.validation import PUBLISHED, read_rows, to_scenario
from simulator.validation.compare import compare

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from simulator.scenario import Scenario
    from simulator.validation.rows import RawRow

MOST_RUNS = 24
"""Runs taken of each source: enough to tell its trends, and a fit stays a matter of minutes."""
_SHORT_PASSES = 8192
_FEW_RUNS = 3


class Observed(Protocol):
    """Something measured that constants explain: a whole run, or a part of a step."""

    @property
    def source(self) -> str:
        """Where it was published."""

    @property
    def constants(self) -> tuple[Constant, ...]:
        """What its speed depends on."""

    def log_error(self, values: Mapping[Constant, float]) -> float:
        """Return the logarithm of predicted over measured speed at given constants."""

    def response(self, values: Mapping[Constant, float]) -> Response:
        """Return that logarithm and how it changes with each constant."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a run says at given constants.

    Attributes:
        log_error: Logarithm of predicted over published throughput.
        slopes: Its derivative by the logarithm of each constant.
    """

    log_error: float
    slopes: Mapping[Constant, float]


@dataclass(frozen=True, slots=True)
class Run:
    """A published run that can be simulated."""

    row: RawRow
    scenario: Scenario

    @property
    def source(self) -> str:
        """Where it was published."""
        return self.row.source

    @property
    def constants(self) -> tuple[Constant, ...]:
        """What its speed depends on."""
        return constants_of(self.scenario)

    def log_error(self, values: Mapping[Constant, float]) -> float:
        """Return the logarithm of predicted over published throughput; nan where it cannot be simulated."""
        scenario = applied(self.scenario, values)
        try:
            return math.log1p(compare(self.row.parsed(), scenario, api.simulate(scenario, quick=True)).error)
        except SimulatorError:
            return math.nan

    def response(self, values: Mapping[Constant, float]) -> Response:
        """Return the error and how it changes with each constant, by finite differences.

        What ranks do depends on none of them, so the step is laid out once.
        """
        error = self.log_error(values)
        if math.isnan(error):
            return Response(error, {})
        scenario = applied(self.scenario, values)
        step = api.timed_step(scenario)
        here_s = api.step_time_s(step, scenario)
        slopes = {}
        for constant in self.constants:
            change = constant.quantity.step
            moved = constant.apply(scenario, values[constant] * (1.0 + change))
            slopes[constant] = math.log(here_s / api.step_time_s(step, moved)) / math.log1p(change)
        return Response(error, slopes)


def published_runs() -> list[Run]:
    """Return the published runs that can be turned into scenarios, thinned by source, none held out."""
    held_out = held_out_runs()
    sources: dict[str, list[Run]] = defaultdict(list)
    for row in read_rows([PUBLISHED]):
        if held_out & {row.source, row.id}:
            continue
        try:
            scenario, _ = to_scenario(row.parsed())
        except SimulatorError:
            continue
        sources[row.source].append(Run(row, scenario))
    return [run for members in sources.values() for run in _thinned(members)]


def held_out_runs() -> frozenset[str]:
    """Return the sources and the ids of rows that the fit does not use; see ``held_out.yaml``."""
    text = (files("simulator.calibration.training") / "held_out.yaml").read_text("utf-8")
    data: Any = parse(text, "held_out.yaml").data
    return frozenset([*data["sources"], *data["rows"]])


def _thinned(runs: Sequence[Run]) -> list[Run]:
    """Take runs evenly spread over a file; of those whose steps take long, only what a source needs."""
    by_length = sorted(runs, key=_passes)
    short = [run for run in runs if _passes(run) <= _SHORT_PASSES]
    chosen = short if len(short) >= _FEW_RUNS else by_length[:_FEW_RUNS]
    count = min(len(chosen), MOST_RUNS)
    return [chosen[index * len(chosen) // count] for index in range(count)]


def _passes(run: Run) -> int:
    """Return the passes of a step, those of schedules that are found by search or insertion as ten."""
    parallelism = run.scenario.parallelism
    written = parallelism.schedule in ("gpipe", "1f1b", "interleaved") and parallelism.vocabulary == "none"
    passes = 2 * parallelism.pp * parallelism.vpp * run.scenario.num_microbatches
    return passes if written else 10 * passes


def all_constants(observed: Iterable[Observed]) -> list[Constant]:
    """Return every constant that one of the observations depends on, in a fixed order."""
    constants = {constant for observation in observed for constant in observation.constants}
    return sorted(constants, key=lambda constant: (constant.group, constant.owner))
