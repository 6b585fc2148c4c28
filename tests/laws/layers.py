"""What one transformer layer does on one rank: its work, its traffic and its time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from simulator.costs.system import System
from simulator.durations.price import price
from simulator.engines import event
from simulator.workload.program import Stream
from simulator.workload.step import stages
from simulator.workload.step.settings import step_settings
from simulator.workload.work import Attention, Collective, Gemm, Transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.scenario import Scenario
    from simulator.workload.layers.layer_work import LayerWork
    from simulator.workload.program import Block, Program, Work
    from simulator.workload.step.stages import Stage


def stages_of(scenario: Scenario) -> tuple[Stage, ...]:
    """Return the pipeline stages of a scenario."""
    settings = step_settings(scenario)
    return stages.stages_of(settings.stages, settings.layers)


def layer(scenario: Scenario) -> tuple[Block, Block]:
    """Return the forward and backward block of one transformer layer."""
    (stage,) = stages_of(scenario)
    work = stage.works[1]
    return work.forward, work.backward


def ops(program: Program) -> Iterator[Work]:
    """Yield the work of every op."""
    return (program.works[work] for work in program.work.tolist())


def head(scenario: Scenario) -> LayerWork:
    """Return the final norm, the vocabulary head and the loss."""
    return stages_of(scenario)[-1].works[-1]


def layer_flops(scenario: Scenario) -> float:
    """Return the FLOPs of all GEMMs and attention kernels of one layer on one rank."""
    return math.fsum(
        work.flops
        for block in layer(scenario)
        for work in ops(block.program)
        if isinstance(work, Gemm | Attention)
    )


def sent_bytes(block: Block, axis: str) -> float:
    """Return what one rank sends by ring algorithms, in all collectives and messages of one axis."""
    total = 0.0
    stream = {"tp": Stream.TP, "cp": Stream.CP}[axis]
    program = block.program
    for work in (program.works[index] for index in program.work[program.stream == stream].tolist()):
        if isinstance(work, Transfer):
            total += work.bytes
        elif isinstance(work, Collective):
            share = (work.group.size - 1) / work.group.size
            total += work.bytes * share * (2 if work.kind == "all_reduce" else 1)
    return total


def layer_s(scenario: Scenario) -> float:
    """Return the seconds of one layer, forward and backward."""
    system = System.of(scenario)
    return sum(event.run(block.program, price(block.program, system)).makespan_s for block in layer(scenario))
