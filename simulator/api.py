"""One simulation: scenario -> program -> durations -> timeline -> metrics."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from simulator.costs.price import System, launches, price
from simulator.engines import event
from simulator.engines.timeline import Timeline
from simulator.results.breakdown import block_shares
from simulator.results.memory import MemoryReport, memory_report
from simulator.results.result import Result, make_result
from simulator.units import format_bytes
from simulator.workload.step import Step, build_step
from simulator.workload.weights import static_memory
from simulator.workload.work import Block, Sequence

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.program import Program


def simulate(scenario: Scenario) -> Result:
    """Simulate one training step and draw every conclusion from it.

    Args:
        scenario: What to simulate; see ``simulator.load``.

    Raises:
        InputError: The scenario asks for what its hardware or software does not have.
        DeadlockError: The schedule's ops wait for each other for ever.
    """
    step = build_step(scenario)
    system = System(cluster=scenario.cluster, software=scenario.software)
    shares = sequence_shares(step.program, system)
    seconds = {work: math.fsum(parts.values()) for work, parts in shares.items()}
    timeline = event.run(step.program, price(step.program, system, seconds))
    memory = _memory(scenario, step, timeline)
    return make_result(scenario, timeline, shares=shares, memory=memory, warnings=_warnings(memory))


def estimate_memory(scenario: Scenario) -> MemoryReport:
    """Return what each pipeline rank holds at its peak, without timing anything.

    Activations come and go on one stream per rank, so the peak depends on the order of ops and not on when
    they run: each op takes one unit of time, one after the other.
    """
    step = build_step(scenario)
    start_s = np.arange(step.program.num_ops, dtype=np.float64)
    return _memory(scenario, step, Timeline(program=step.program, start_s=start_s, end_s=start_s + 1.0))


def sequence_shares(program: Program, system: System) -> dict[int, dict[str, float]]:
    """Time the layers of each stage: seconds by category of every work that is a sequence of blocks.

    A block's seconds are its own program's makespan. The host launches its kernels meanwhile: where that
    takes longer, the excess is overhead.
    """
    blocks: dict[Block, dict[str, float]] = {}
    shares: dict[int, dict[str, float]] = {}
    for index, work in enumerate(program.works):
        if not isinstance(work, Sequence):
            continue
        total: dict[str, float] = {}
        for block, count in work.blocks:
            if block not in blocks:
                blocks[block] = _block_shares(block, system)
            for category, seconds in blocks[block].items():
                total[category] = total.get(category, 0.0) + count * seconds
        shares[index] = total
    return shares


def _block_shares(block: Block, system: System) -> dict[str, float]:
    timeline = event.run(block.program, price(block.program, system))
    shares = dict(block_shares(timeline))
    host_s = launches(block.program) * system.software.kernel_launch_s
    if host_s > timeline.makespan_s:
        shares["overhead"] = shares.get("overhead", 0.0) + host_s - timeline.makespan_s
    return shares


def _memory(scenario: Scenario, step: Step, timeline: Timeline) -> MemoryReport:
    return memory_report(
        timeline,
        [asdict(rank) for rank in static_memory(scenario, step.stages)],
        capacity_bytes=scenario.cluster.gpu.memory_bytes,
        fragmentation=scenario.software.memory_fragmentation,
    )


def _warnings(memory: MemoryReport) -> tuple[str, ...]:
    if memory.fits:
        return ()
    worst = memory.worst
    needed, held = format_bytes(worst.total_bytes), format_bytes(memory.capacity_bytes)
    text = f"does not fit: {worst.name} needs {needed} of {held}; its largest term is {worst.largest_term}"
    return (text,)
