"""From a scenario to the Program of one training step.

One data-parallel replica stands for all: ranks of the program are pipeline ranks. A step begins where all
ranks left the optimizer of the step before, so gathering parameters comes first and the optimizer last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.workload.data_parallel import DataParallel
from simulator.workload.passes import PassWriter
from simulator.workload.program import Program, ProgramBuilder
from simulator.workload.schedules import SCHEDULES
from simulator.workload.stages import Stage, stages_of
from simulator.workload.step_end import append_step_end

if TYPE_CHECKING:
    from simulator.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One training step.

    Attributes:
        program: Its ops.
        stages: The pipeline stages that its ops run.
    """

    program: Program
    stages: tuple[Stage, ...]


def build_step(scenario: Scenario) -> Step:
    """Lay out one training step of a scenario."""
    parallelism = scenario.parallelism
    actions = SCHEDULES[parallelism.schedule](parallelism.pp, parallelism.vpp, scenario.num_microbatches)
    stages = stages_of(scenario)
    owners = {action.stage: rank for rank, mine in enumerate(actions) for action in mine}
    builder = ProgramBuilder(
        rank_names=tuple(f"pp {rank}" for rank in range(parallelism.pp)),
        replicas=parallelism.gpus // parallelism.pp,
    )
    data_parallel = DataParallel(scenario=scenario, stages=stages, builder=builder, owners=owners)
    data_parallel.gather_parameters()
    passes = PassWriter(scenario=scenario, stages=stages, builder=builder, data_parallel=data_parallel)
    for rank, mine in enumerate(actions):
        passes.run(rank, mine)
    passes.transfer(actions)
    append_step_end(scenario, stages, owners, builder, passes.last_compute, data_parallel.reduced)
    return Step(program=builder.build(), stages=stages)
