"""Many steps of one job: how long they take, and what each straggler costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from simulator.errors import InputError
from simulator.explore.execute import LOCAL, Backend, execute
from simulator.explore.keeper import keeper_of
from simulator.explore.montecarlo.cells import cell_of
from simulator.explore.montecarlo.steps import job_of, records_of, simulate_steps, tasks_of
from simulator.explore.shard import WHOLE, Shard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from simulator.explore.keeper import Records
    from simulator.explore.montecarlo.fleet import Fleet
    from simulator.explore.montecarlo.steps import Steps
    from simulator.scenario import Scenario
    from simulator.workload.program import Floats

SUSPECTS = 5
"""Slowest GPUs, beyond the stragglers of the scenario, whose cost is found."""
MOST_STRAGGLERS = 16
"""Stragglers of the scenario whose cost is found: each takes as many steps as the whole job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StragglerCost:
    """What one GPU costs the whole job.

    Attributes:
        gpu: Its global rank.
        pipeline_rank: Its pipeline rank.
        replica: Its data-parallel replica.
        slowdown: Time of its kernels over the usual one's.
        cost_s: Mean step time less that with this GPU as the mean one is, on the same random numbers.
        share: That over the mean step time.
    """

    gpu: int
    pipeline_rank: int
    replica: int
    slowdown: float
    cost_s: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MonteCarlo:
    """What many steps say.

    Attributes:
        scenario: The request.
        quiet_s: Seconds of a step whose GPUs are all alike and never waver: what ``run`` says. It takes every
            GPU to be as slow as the slowest of them is expected to be.
        step_times_s: Seconds of every simulated step.
        stragglers: What each suspect costs, the dearest first.
        left_out: Stragglers of the scenario that are simulated, but whose own cost was not found.
    """

    scenario: Scenario
    quiet_s: float
    step_times_s: Floats = field(repr=False)
    stragglers: tuple[StragglerCost, ...] = ()
    left_out: int = 0

    @property
    def mean_s(self) -> float:
        """Mean step time."""
        return float(self.step_times_s.mean())

    def percentile_s(self, percent: float) -> float:
        """Return a percentile of the step time."""
        return float(np.percentile(self.step_times_s, percent))

    def to_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return {
            "name": self.scenario.name,
            "seed": self.scenario.seed,
            "steps": len(self.step_times_s),
            "quiet_step_time_s": self.quiet_s,
            "mean_step_time_s": self.mean_s,
            "standard_deviation_s": float(self.step_times_s.std()),
            "percentiles_s": {str(p): self.percentile_s(p) for p in (1, 5, 50, 95, 99)},
            "tokens_per_s": self.scenario.tokens_per_step / self.mean_s,
            "stragglers": [
                {name: getattr(found, name) for name in found.__slots__} for found in self.stragglers
            ],
            "stragglers_left_out": self.left_out,
            "step_times_s": self.step_times_s.tolist(),
        }


def monte_carlo(
    scenario: Scenario,
    *,
    steps: int = 100,
    progress: Callable[[int, int], None] | None = None,
    backend: Backend = LOCAL,
    store: str | Path | None = None,
    shard: Shard = WHOLE,
) -> MonteCarlo:
    """Simulate steps of a job whose GPUs differ, every GPU of every replica by itself.

    Each step has random numbers of its own, so the seed decides the result and the backend does not.

    Args:
        scenario: What to simulate, with its noise and its seed.
        steps: Steps to draw.
        progress: Called with the number of steps done and of all.
        backend: Where steps are simulated; see ``execute``.
        store: File that keeps steps as soon as they are done, some at a time, and gives back those that it
            holds already: an interrupted run goes on where it was, a longer one where a shorter one ended.
        shard: Part of the steps to draw, for job arrays; the result is that of these steps.

    Raises:
        InputError: Fewer than one step, a cluster of several kinds of GPUs, or the store or the backend
            cannot be used.
    """
    if steps < 1:
        raise InputError(f"{steps} steps: at least one is needed")
    if scenario.cluster.pools:
        raise InputError("Monte Carlo needs a cluster of one kind of GPUs")
    job = job_of(scenario)
    suspects = _suspects(job.fleet)
    tasks = list(tasks_of(scenario, steps, suspects, shard))
    found = _times(tasks, records_of(scenario.digest(), scenario.name), progress, backend, store)
    times = np.array(
        [
            [seconds for task in tasks if task.healed == healed for seconds in found[task.healed, task.first]]
            for healed in (None, *suspects)
        ]
    )
    rows = {healed: row for row, healed in enumerate((None, *suspects))}
    costs = [_cost(job.fleet, gpu, times[0], times[rows[gpu]]) for gpu in suspects]
    return MonteCarlo(
        scenario=scenario,
        quiet_s=job.template.run_s,
        step_times_s=times[0],
        stragglers=tuple(sorted(costs, key=lambda cost: (-cost.cost_s, cost.gpu))),
        left_out=len({each.gpu for each in job.fleet.slow}.difference(suspects)),
    )


def _times(
    tasks: Sequence[Steps],
    records: Records[Steps, list[float]],
    progress: Callable[[int, int], None] | None,
    backend: Backend,
    store: str | Path | None,
) -> dict[tuple[int | None, int], list[float]]:
    """Return the seconds of the steps of each task, by the GPU that is healed and the first step."""
    say = progress or (lambda _done, _all: None)
    total = sum(task.end - task.first for task in tasks)
    with keeper_of(store, tasks, records) as keeper:
        found = keeper.known()
        done = sum(map(len, found.values()))
        say(done, total)
        missing = [number for number in range(len(tasks)) if number not in found]
        for position, seconds in execute(simulate_steps, [tasks[number] for number in missing], backend):
            number = missing[position]
            found[number] = seconds
            keeper.keep(number, seconds)
            done += len(seconds)
            say(done, total)
    return {(task.healed, task.first): found[number] for number, task in enumerate(tasks)}


def _suspects(fleet: Fleet) -> list[int]:
    """Return the worst of the scenario's stragglers and the slowest others."""
    listed = fleet.stragglers()[:MOST_STRAGGLERS]
    if np.ptp(fleet.spread) == 0:
        return listed
    return list(dict.fromkeys([*listed, *fleet.slowest(SUSPECTS)]))


def _cost(fleet: Fleet, gpu: int, with_it: Floats, without_it: Floats) -> StragglerCost:
    pp, dp = (int(part[0]) for part in cell_of(fleet.parallelism, np.array([gpu])))
    slowdown = float(fleet.slowdowns()[gpu])
    cost = float(with_it.mean() - without_it.mean())
    return StragglerCost(
        gpu=gpu,
        pipeline_rank=pp,
        replica=dp,
        slowdown=slowdown,
        cost_s=cost,
        share=cost / float(with_it.mean()),
    )
