"""Some steps of a job, as a task for any process: what it needs is plain data, what it builds it keeps."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from simulator.engines.replicas import run_replicas
from simulator.explore.keeper import Label, Records
from simulator.explore.montecarlo.draw import Drawer
from simulator.explore.montecarlo.fleet import Fleet
from simulator.explore.montecarlo.template import Template, template_of
from simulator.explore.shard import WHOLE
from simulator.explore.store import run_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from simulator.explore.shard import Shard
    from simulator.scenario import Scenario

_PER_TASK = 10
"""Steps of one task: enough to be worth sending, few enough to keep all processes busy to the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Steps ``first`` up to but without ``end`` of a job.

    Attributes:
        scenario: The job, with its noise and its seed.
        healed: GPU that is as the mean one here; None: all are as they are.
        first: See above.
        end: See above.
    """

    scenario: Scenario
    healed: int | None
    first: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all steps of a scenario share.

    Attributes:
        scenario: The request.
        template: Its step without noise.
        fleet: Its GPUs.
        drawers: What draws steps, for the latest healed GPU.
    """

    scenario: Scenario
    template: Template
    fleet: Fleet
    drawers: dict[int | None, Drawer] = field(default_factory=dict)

    def drawer(self, healed: int | None) -> Drawer:
        """Return what draws steps with one GPU healed."""
        found = self.drawers.get(healed)
        if found is None:
            fleet = self.fleet if healed is None else self.fleet.without(healed)
            found = Drawer.of(self.template, fleet, self.scenario.noise)
            self.drawers.clear()
            self.drawers[healed] = found
        return found


_latest: list[Job] = []
"""The job that this process worked on last."""


def job_of(scenario: Scenario) -> Job:
    """Return what all steps of a scenario share, as it was built before where it was."""
    for job in _latest:
        if job.scenario is scenario or job.scenario == scenario:
            return job
    spread = scenario.cluster.gpu.speed_spread
    fleet = Fleet.draw(scenario.parallelism, scenario.noise, spread, scenario.seed)
    job = Job(scenario=scenario, template=template_of(scenario), fleet=fleet)
    _latest[:] = [job]
    return job


def tasks_of(
    scenario: Scenario, steps: int, suspects: Sequence[int], shard: Shard = WHOLE
) -> Iterator[Steps]:
    """Yield the steps of a job as it is, and then with each suspect healed.

    Args:
        scenario: The job.
        steps: How many in all.
        suspects: GPUs to heal, one at a time.
        shard: Part of the steps, the same ones whoever is healed.

    Raises:
        InputError: The shard has none.
    """
    firsts = shard.part(range(0, steps, _PER_TASK), f"parts of {_PER_TASK} steps")
    for healed in (None, *suspects):
        for first in firsts:
            yield Steps(scenario=scenario, healed=healed, first=first, end=min(first + _PER_TASK, steps))


def records_of(digest: str, name: str) -> Records[Steps, list[float]]:
    """Return how the seconds of steps are kept; more steps of the same job begin with the same ones.

    Args:
        digest: What tells the scenario from others.
        name: Its name, for people.
    """

    def label(task: Steps) -> Label:
        key = run_key(f"{digest} montecarlo without {task.healed} steps {task.first} to {task.end}")
        return Label(key=key, name=name)

    return Records(label=label, write=json.dumps, read=json.loads)


def simulate_steps(task: Steps) -> list[float]:
    """Return the seconds of each step of a task: the same whoever simulates it and after what.

    What ``run`` says of the step grows by the share by which what is drawn is longer, or shorter, than the
    same step of ``run`` without transfers that share links.
    """
    job = job_of(task.scenario)
    drawer, template = job.drawer(task.healed), job.template
    ends = np.empty((1, *drawer.steady.shape))
    found = []
    for number in range(task.first, task.end):
        seconds = drawer.step(task.scenario.seed, number)
        run_replicas(template.program, seconds[None], template.coupling, ends=ends)
        found.append(template.run_s * (float(ends.max()) / template.run_alone_s))
    return found
