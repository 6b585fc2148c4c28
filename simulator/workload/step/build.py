"""From a scenario to the Program of one training step.

One data-parallel replica stands for all: ranks of the program are pipeline ranks. A step begins where all
ranks left the optimizer of the step before, so gathering parameters comes first and the optimizer last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.schedules.with_vocabulary import without_vocabulary
from simulator.workload.pipeline import Pipeline, held_stages, plain
from simulator.workload.program import Program, ProgramBuilder
from simulator.workload.step.ddp_and_zero import Bucketed
from simulator.workload.step.end import append_step_end
from simulator.workload.step.fsdp import FullySharded
from simulator.workload.step.messages import Messages
from simulator.workload.step.passes import PassWriter
from simulator.workload.step.stages import Stage, stages_of
from simulator.workload.step.vocabulary_parallel import OutputWriter

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.schedules import Order, StageTimes
    from simulator.workload.step.data_parallel import Bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One training step.

    Attributes:
        program: Its ops.
        stages: The pipeline stages that its ops run.
        held: Stages that each rank holds.
    """

    program: Program
    stages: tuple[Stage, ...]
    held: tuple[tuple[int, ...], ...]


def build_step(scenario: Scenario, times: StageTimes | None = None) -> Step:
    """Lay out one training step of a scenario.

    Args:
        scenario: The request.
        times: How long the passes of each stage take, for schedules that are made to measure.
    """
    return lay_out(scenario, Pipeline.of(scenario).order(times), stages_of(scenario))


def lay_out(
    scenario: Scenario, order: Order, stages: tuple[Stage, ...], parts: list[list[Bucket]] | None = None
) -> Step:
    """Lay out one training step of given stages in a given order.

    Args:
        scenario: The request.
        order: What every rank does.
        stages: The pipeline stages.
        parts: Buckets or units that data parallelism divides each stage into; None: those of the scenario.
    """
    parallelism = scenario.parallelism
    passes = without_vocabulary(order)
    held = held_stages(passes)
    builder = ProgramBuilder(
        rank_names=tuple(f"pp {rank}" for rank in range(parallelism.pp)),
        replicas=parallelism.gpus // parallelism.pp,
    )
    strategy = FullySharded if parallelism.sharding == "zero3" else Bucketed
    data_parallel = strategy(
        scenario=scenario, stages=stages, builder=builder, order=plain(passes), parts=parts or []
    )
    writer = PassWriter(
        scenario=scenario,
        stages=stages,
        builder=builder,
        data_parallel=data_parallel,
        messages=Messages.of(scenario, builder, plain(passes), len(stages)),
        output=_output(scenario, builder),
    )
    writer.run(order)
    append_step_end(scenario, stages, held, builder, writer.last_compute, data_parallel.reduced)
    return Step(program=builder.build(), stages=stages, held=held)


def _output(scenario: Scenario, builder: ProgramBuilder) -> OutputWriter | None:
    if scenario.parallelism.vocabulary == "none":
        return None
    return OutputWriter.of(scenario, builder)
