"""What training reaches of isolated kernels, fitted to the published runs that ship with the package.

    python -m simulator.calibration.fit_training

Isolated kernels were measured alone and settled. Two things remain that only whole steps show, each with a
physical meaning:

1. ``training_clock``, per GPU and number format: the share of its isolated speed that a GEMM sustains between
   the other kernels and collectives of a step. Fitted to dense models of stacks with fused kernels
   (``REFERENCE``), whose steps neither the host nor memory-bound kernels rule.
2. ``kernel_launch_s`` and ``elementwise_slowdown``, per software stack: what the host spends on each kernel
   that a layer lists (its Python, autograd and the small kernels that are not listed), and how many more
   bytes its memory-bound kernels move than the listed ones.

Every source weighs the same in a fit, and a run counts with the absolute logarithm of its error.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import simulator.catalogue
from simulator import api
from simulator.errors import SimulatorError
from simulator.scenario.training import number_format
from simulator.validation import PUBLISHED, read_rows, to_scenario
from simulator.validation.compare import compare

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.scenario import Scenario
    from simulator.validation.rows import RawRow

COMMAND = "python -m simulator.calibration.fit_training"
REFERENCE = ("megatron-core", "megatron-lm-2022", "nemo", "megatron-bridge", "megascale", "meta-llama3")
CLOCKS = (0.72, 0.86, 1.0)
FINE_CLOCKS = tuple(np.round(np.arange(0.75, 1.0001, 0.01), 2).tolist())
SCHEDULES = ("1f1b", "interleaved")
LAUNCHES_S = (4e-6, 8e-6, 16e-6, 32e-6, 64e-6)
SLOWDOWNS = (1.0, 1.5, 2.2, 3.3)
FORMATS = {"16-bit": ("bf16", "fp16"), "fp8": ("fp8",), "fp4": ("fp4",), "fp32": ("fp32",), "tf32": ("tf32",)}
FAMILIES = tuple(FORMATS)
LEAST_ROWS = 5
WORST = 0.3
"""Errors count up to this: a run that is misunderstood must not pull the constants of all others."""
MOST_ROWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One choice of the constants.

    Attributes:
        clock: Share of isolated speed that kernels of ``formats`` sustain.
        formats: Number formats that the clock holds for.
        launch_s: Host time per kernel.
        slowdown: Time of memory-bound kernels over that of the listed bytes.
    """

    clock: float | None = None
    formats: tuple[str, ...] = ()
    launch_s: float | None = None
    slowdown: float | None = None

    def apply(self, scenario: Scenario) -> Scenario:
        """Return the scenario with these constants instead of its own."""
        gpu, software = scenario.cluster.gpu, scenario.software
        if self.clock is not None:
            clocks = {**gpu.training_clock, **dict.fromkeys(self.formats, self.clock)}
            gpu = replace(gpu, training_clock=clocks)
        if self.launch_s is not None:
            software = replace(software, kernel_launch_s=self.launch_s)
        if self.slowdown is not None:
            software = replace(software, elementwise_slowdown=self.slowdown)
        return replace(scenario, cluster=replace(scenario.cluster, gpu=gpu), software=software)


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The setting that fits best.

    Attributes:
        setting: It.
        error: Its mean absolute logarithm, every source weighing the same.
        uncertainty: Half the range of settings whose error is within a tenth of that, by field.
        points: Runs that it was fitted to.
    """

    setting: Setting
    error: float
    uncertainty: Mapping[str, float]
    points: int


def main() -> None:
    """Run both fits and write the file."""
    runs = published_runs()
    with ProcessPoolExecutor() as pool:
        clocks = fit_clocks(runs, pool)
        stacks = fit_stacks(runs, clocks, pool)
    path = Path(simulator.catalogue.__file__).parent / "fitted" / "training.yaml"
    path.write_text(text_of(clocks, stacks), encoding="utf-8", newline="\n")


@dataclass(frozen=True, slots=True)
class Run:
    """A published run that can be simulated."""

    row: RawRow
    scenario: Scenario

    @property
    def family(self) -> str:
        """Family of number formats of its GEMMs."""
        name = number_format(self.scenario.training.precision)
        return next((family for family, formats in FORMATS.items() if name in formats), name)


def published_runs() -> list[Run]:
    """Return the published runs that can be turned into scenarios of one kind of GPU."""
    runs = []
    for row in read_rows([PUBLISHED]):
        try:
            scenario, _ = to_scenario(row.parsed())
        except SimulatorError:
            continue
        # Runs that test a schedule or its vocabulary stages say little about kernels, and take long.
        if scenario.parallelism.schedule in SCHEDULES and scenario.parallelism.vocabulary == "none":
            runs.append(Run(row, scenario))
    return runs


def fit_clocks(runs: Sequence[Run], pool: ProcessPoolExecutor) -> dict[tuple[str, str], Best]:
    """Fit the share of isolated speed that training sustains, by GPU and number format."""
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        if run.scenario.software.name in REFERENCE and run.scenario.model.experts is None:
            groups[run.scenario.cluster.gpu.name, run.family].append(run)
    found: dict[tuple[str, str], Best] = {}
    # 16-bit formats come first: steps in lower precision run their attention and some of their GEMMs in them.
    for gpu, family in sorted(groups, key=lambda key: (key[0], FAMILIES.index(key[1]))):
        known = found.get((gpu, FAMILIES[0]))
        members = thinned(groups[gpu, family])
        chosen = [Run(run.row, known.setting.apply(run.scenario)) if known else run for run in members]
        if len(chosen) >= LEAST_ROWS:
            settings = [Setting(clock=clock, formats=FORMATS[family]) for clock in CLOCKS]
            found[gpu, family] = best(chosen, settings, pool, fine=FINE_CLOCKS)
            report(f"{gpu} {family}", found[gpu, family])
    return found


def fit_stacks(
    runs: Sequence[Run], clocks: Mapping[tuple[str, str], Best], pool: ProcessPoolExecutor
) -> dict[str, Best]:
    """Fit each stack's host time per kernel and, unless it is a reference, its memory-bound kernels."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        scenario = run.scenario
        for family in FAMILIES:
            clock = clocks.get((scenario.cluster.gpu.name, family))
            scenario = clock.setting.apply(scenario) if clock is not None else scenario
        groups[scenario.software.name].append(Run(run.row, scenario))
    found = {}
    for name, members in sorted(groups.items()):
        chosen = thinned(members)
        slowdowns = (1.0,) if name in REFERENCE else SLOWDOWNS
        settings = [Setting(launch_s=launch, slowdown=slow) for launch in LAUNCHES_S for slow in slowdowns]
        if len(chosen) >= LEAST_ROWS:
            found[name] = refined(chosen, best(chosen, settings, pool), pool)
            report(name, found[name])
    return found


def thinned(runs: Sequence[Run]) -> list[Run]:
    """Take at most ``MOST_ROWS`` runs of each source, evenly spread over its file."""
    sources: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        sources[run.row.source].append(run)
    picked = []
    for members in sources.values():
        count = min(len(members), MOST_ROWS)
        picked += [members[index * len(members) // count] for index in range(count)]
    return picked


def refined(runs: Sequence[Run], coarse: Best, pool: ProcessPoolExecutor) -> Best:
    """Search once more, between the neighbours of the coarse optimum."""
    setting = coarse.setting
    if setting.launch_s is None or setting.slowdown is None:
        return coarse
    launches = [setting.launch_s * factor for factor in (0.7, 0.84, 1.0, 1.19, 1.41)]
    slowdowns = (
        [1.0] if setting.slowdown == 1.0 else [setting.slowdown * factor for factor in (0.82, 1, 1.22)]
    )
    settings = [Setting(launch_s=launch, slowdown=slow) for launch in launches for slow in slowdowns]
    return best(runs, settings, pool)


def best(
    runs: Sequence[Run],
    settings: Sequence[Setting],
    pool: ProcessPoolExecutor,
    fine: Sequence[float] = (),
) -> Best:
    """Return the setting with the least mean absolute logarithmic error, every source weighing the same.

    With ``fine``, the three settings are clocks, and the parabola through their errors is searched there.
    """
    logs = np.array(list(pool.map(_logs, runs, [tuple(settings)] * len(runs), chunksize=2)))
    if fine:
        clocks = np.array([setting.clock or 1.0 for setting in settings])
        logs = np.array([np.polyval(np.polyfit(clocks, log, 2), np.array(fine)) for log in logs])
        settings = [replace(settings[0], clock=clock) for clock in fine]
    sources = np.array([run.row.source for run in runs])
    sizes = np.minimum(np.abs(logs), WORST)
    errors = np.mean([np.nanmean(sizes[sources == name], axis=0) for name in set(sources)], axis=0)
    at = int(np.argmin(errors))
    near = [setting for setting, error in zip(settings, errors, strict=True) if error <= 1.1 * errors[at]]
    return Best(
        setting=settings[at],
        error=float(errors[at]),
        uncertainty={name: _half_range(near, name) for name in ("clock", "launch_s", "slowdown")},
        points=len(runs),
    )


def _half_range(settings: Sequence[Setting], name: str) -> float:
    values = [value for setting in settings if (value := getattr(setting, name)) is not None]
    return (max(values) - min(values)) / 2 if values else 0.0


def _logs(run: Run, settings: Sequence[Setting]) -> list[float]:
    """Return the logarithm of predicted over published throughput of a run under each setting."""
    row, logs = run.row.parsed(), []
    for setting in settings:
        scenario = setting.apply(run.scenario)
        try:
            logs.append(math.log1p(compare(row, scenario, api.simulate(scenario)).error))
        except SimulatorError:
            logs.append(math.nan)
    return logs


def report(name: str, found: Best) -> None:
    """Print one line."""
    setting = found.setting
    parts = {"clock": setting.clock, "launch_s": setting.launch_s, "slowdown": setting.slowdown}
    text = ", ".join(f"{key} {value:.4g}" for key, value in parts.items() if value is not None)
    sys.stdout.write(f"{name:<32}{found.points:>5} runs  error {found.error:.1%}  {text}\n")
    sys.stdout.flush()


def text_of(clocks: Mapping[tuple[str, str], Best], stacks: Mapping[str, Best]) -> str:
    """Write the fitted file, the same bytes for the same numbers."""
    lines = [f"# Written by `{COMMAND}`; do not edit.", "gpus:"]
    for gpu in sorted({gpu for gpu, _ in clocks}):
        lines.append(f"  {gpu}:")
        for (owner, _), found in sorted(clocks.items()):
            if owner == gpu and found.setting.clock is not None:
                leaf = _leaf(f"{found.setting.clock:.3g}", "clock", found)
                lines += [f"    {name}: {leaf}" for name in found.setting.formats]
    lines.append("stacks:")
    for name, found in sorted(stacks.items()):
        launch, slowdown = found.setting.launch_s or 0.0, found.setting.slowdown or 1.0
        lines.append(f"  {name}:")
        lines.append(f"    kernel_launch_s: {_leaf(f'{launch:.3g}', 'launch_s', found)}")
        lines.append(f"    elementwise_slowdown: {_leaf(f'{slowdown:.3g}', 'slowdown', found)}")
    return "\n".join(lines) + "\n"


def _leaf(value: str, name: str, found: Best) -> str:
    where = "published runs (simulator/validation/published)"
    source = f"{found.points} {where}, mean error {found.error:.1%}; rerun: {COMMAND}"
    return f'{{value: {value}, uncertainty: {found.uncertainty[name]:.2g}, kind: fitted, source: "{source}"}}'


if __name__ == "__main__":
    main()
