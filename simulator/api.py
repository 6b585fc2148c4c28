"""One simulation: scenario -> program -> durations -> timeline -> metrics."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from simulator.costs.system import System
from simulator.durations.contention import slowed_passes
from simulator.durations.layers import host_holds_up
from simulator.durations.slot_table import SHARE, slot_costs
from simulator.durations.stage_times import stage_times
from simulator.durations.step import step_durations
from simulator.engines import ENGINES, compiled, run_quick
from simulator.engines.continuous import continuous
from simulator.engines.sharing import any_overlap
from simulator.engines.timeline import Timeline
from simulator.results.memory import MemoryReport, memory_report
from simulator.results.pass_shares import sequence_shares
from simulator.results.result import Result, make_result
from simulator.units import format_bytes
from simulator.workload.parameters.model_states import StaticMemory, sums_gradients_locally
from simulator.workload.pipeline import Pipeline
from simulator.workload.program import Stream
from simulator.workload.step.build import Step, build_step
from simulator.workload.step.rank_memory import static_memory
from simulator.workload.step.settings import step_settings

if TYPE_CHECKING:
    from simulator.engines.durations import Durations
    from simulator.scenario import Scenario
    from simulator.workload.program import Floats


_STATIC = tuple(field.name for field in fields(StaticMemory))


def simulate(scenario: Scenario, *, quick: bool = False) -> Result:
    """Simulate one training step and draw every conclusion from it.

    Args:
        scenario: What to simulate; see ``simulator.load``.
        quick: Use the compiled engine where it says the same as the event engine but for rounding.

    Raises:
        InputError: The scenario asks for what its hardware or software does not have.
        DeadlockError: The schedule's ops wait for each other for ever.
    """
    step = timed_step(scenario)
    timeline, durations = timed(step, scenario, quick=quick)
    warnings = _engine_warnings(scenario, timeline, durations)
    if scenario.training.post_validation:
        timeline = continuous(timeline)
    memory = _memory(scenario, step, timeline)
    warnings += _warnings(memory)
    system = System.of(scenario)
    if scenario.training.cuda_graphs and not host_holds_up(step.program, system):
        warnings += ("training.cuda_graphs has no effect: the host launches kernels faster than they run",)
    shares = sequence_shares(step.program, system)
    return make_result(scenario, timeline, shares=shares, memory=memory, warnings=warnings)


def estimate_memory(scenario: Scenario) -> MemoryReport:
    """Return what each pipeline rank holds at its peak, without timing anything.

    Activations come and go on one stream per rank, so the peak depends on the order of ops and not on when
    they run: each op takes one unit of time, one after the other.
    """
    step = timed_step(scenario)
    start_s = np.arange(step.program.num_ops, dtype=np.float64)
    return _memory(scenario, step, Timeline(program=step.program, start_s=start_s, end_s=start_s + 1.0))


def timed_step(scenario: Scenario) -> Step:
    """Lay out one training step; a schedule that is made to measure learns first how long passes take."""
    step = build_step(scenario)
    if not Pipeline.of(scenario).uses_times:
        return step
    durations = step_durations(step, step_costs(step, scenario), System.of(scenario))
    times = stage_times(step.program, durations, len(step.stages), scenario.num_microbatches)
    return build_step(scenario, times)


def step_costs(step: Step, scenario: Scenario) -> Floats:
    """Return what the slots of a step cost on the hardware and software of a scenario; see ``slot_costs``."""
    return slot_costs(step_settings(scenario), System.of(scenario), step.structure.arrangement)


def timed(step: Step, scenario: Scenario, *, quick: bool) -> tuple[Timeline, Durations]:
    """Run a step, and once more with passes slowed by the collectives that they were found to run beside."""
    costs = step_costs(step, scenario)
    durations = step_durations(step, costs, System.of(scenario))
    run = run_quick if quick and scenario.engine == "event" else ENGINES[scenario.engine]
    timeline = run(step.program, durations)
    slowed = slowed_passes(step.structure, timeline, durations, costs[SHARE])
    if slowed is not durations:
        durations = slowed
        timeline = run(step.program, durations)
    return timeline, durations


def step_time_s(step: Step, scenario: Scenario) -> float:
    """Return the seconds of a step that was laid out before, on the hardware and software of a scenario.

    For fits that vary what hardware and software reach, and never what ranks do.
    """
    timeline, _ = timed(step, scenario, quick=True)
    return (continuous(timeline) if scenario.training.post_validation else timeline).makespan_s


def least_step_time_s(step: Step, scenario: Scenario) -> float:
    """Return seconds that a step takes at least, whatever engine runs it.

    These are what the compiled engine says where nothing slows anything down: what shares links, or runs
    beside collectives, takes longer, and nothing ends earlier for it. Steps without a barrier between them
    are no shorter than the passes of the rank with most of them.
    """
    durations = step_durations(step, step_costs(step, scenario), System.of(scenario))
    if not scenario.training.post_validation:
        return compiled.run(step.program, durations).makespan_s
    program, busy = step.program, step.program.stream == Stream.COMPUTE
    return float(np.bincount(program.rank[busy], durations.alone_s()[busy]).max())


def _memory(scenario: Scenario, step: Step, timeline: Timeline) -> MemoryReport:
    every = scenario.parallelism.reduce_every_microbatch
    held = static_memory(
        step_settings(scenario).states,
        step.stages,
        step.held,
        step.program,
        sums_gradients=sums_gradients_locally(scenario.num_microbatches, reduces_every=every),
    )
    return memory_report(
        timeline,
        [{name: getattr(rank, name) for name in _STATIC} for rank in held],
        capacity_bytes=_capacity_bytes(scenario),
        fragmentation=scenario.software.memory_fragmentation,
    )


def _capacity_bytes(scenario: Scenario) -> float | list[float]:
    cluster = scenario.cluster
    if not cluster.pools:
        return cluster.gpu.memory_bytes
    return [part.gpu.memory_bytes for part in cluster.of_pipeline_ranks(scenario.parallelism.pp)]


def _engine_warnings(scenario: Scenario, timeline: Timeline, durations: Durations) -> tuple[str, ...]:
    if scenario.engine == "event" or not any_overlap(timeline, durations):
        return ()
    return ("transfers share links and so take longer than the compiled engine says",)


def _warnings(memory: MemoryReport) -> tuple[str, ...]:
    if memory.fits:
        return ()
    worst = memory.worst
    needed, held = format_bytes(worst.total_bytes), format_bytes(memory.capacity_bytes)
    text = f"does not fit: {worst.name} needs {needed} of {held}; its largest term is {worst.largest_term}"
    return (text,)
