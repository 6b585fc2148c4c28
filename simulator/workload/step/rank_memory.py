"""What a pipeline rank holds besides activations, and what whole gradients add to the peak of a step.

Several micro-batches sum up gradients on a rank before they are reduced. Where gradients are sharded, whole
ones of a stage exist from its first to its last backward pass of a step, when they are reduced to shards and
freed. A schedule that runs a stage's micro-batches in a row holds those of few stages at a time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from simulator.workload.parameters.model_states import held_memory, sharded_gradient_bytes
from simulator.workload.program import Stream
from simulator.workload.step.segments import MAKES_GRADIENTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.workload.parameters.model_states import ModelStates, StaticMemory
    from simulator.workload.program import Floats, Program
    from simulator.workload.step.stages import Stage


def summed_gradient_bytes(program: Program, rank: int, sizes: Mapping[int, float]) -> float:
    """Return by how much whole gradients raise the peak of a rank's activations.

    Passes of a rank run in their order, so the peak of both together depends on nothing else.

    Args:
        program: One step.
        rank: Program rank.
        sizes: Bytes of the whole gradients of each of its stages.
    """
    if not any(sizes.values()):
        return 0.0
    ops = program.queue(rank, Stream.COMPUTE)
    freed = program.freed_bytes[ops]
    activations = np.cumsum(program.allocated_bytes[ops] - freed) + freed
    gradients: Floats = np.zeros(len(ops))
    kinds, stages = program.kind[ops], program.stage[ops]
    makes = np.logical_or.reduce([kinds == kind for kind in MAKES_GRADIENTS])
    for stage, size in sizes.items():
        passes = np.flatnonzero(makes & (stages == stage))
        if passes.size:
            gradients[passes[0] : passes[-1] + 1] += size
    both = float((activations + gradients).max(initial=0.0))
    return both - float(activations.max(initial=0.0))


def static_memory(
    states: ModelStates,
    stages: tuple[Stage, ...],
    held: Sequence[Sequence[int]],
    program: Program,
    *,
    sums_gradients: bool,
) -> tuple[StaticMemory, ...]:
    """Return what each pipeline rank holds at its peak besides activations.

    Args:
        states: How weights, gradients and optimizer state are kept.
        stages: The pipeline stages, in model order.
        held: [rank] Indices of the stages that a pipeline rank holds.
        program: One step.
        sums_gradients: Whether gradients of several micro-batches are summed on each rank; see
            ``sums_gradients_locally``.
    """
    return tuple(
        _rank_memory(
            states,
            {number: stages[number] for number in of_rank},
            program,
            rank,
            sums_gradients=sums_gradients,
        )
        for rank, of_rank in enumerate(held)
    )


def _rank_memory(
    states: ModelStates, stages: Mapping[int, Stage], program: Program, rank: int, *, sums_gradients: bool
) -> StaticMemory:
    memory = held_memory(states, tuple(stage.outline for stage in stages.values()))
    sizes = {
        number: sharded_gradient_bytes(states.local, states.sharding, states.sizes.gradient, stage.outline)
        * sums_gradients
        for number, stage in stages.items()
    }
    return replace(
        memory,
        gradients=memory.gradients + summed_gradient_bytes(program, rank, sizes),
        logits=max((work.working_bytes for stage in stages.values() for work in stage.works), default=0.0),
    )
