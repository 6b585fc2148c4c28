"""How a step ends: tied embeddings are summed, gradients clipped, weights updated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.grid import expert_gradient_group, gradient_group, stride
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.shapes import shapes_of
from simulator.workload.weights import gradient_bytes, stage_parameters
from simulator.workload.work import Collective, Elementwise, Group, StepOverhead

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.scenario import Scenario
    from simulator.workload.stages import Stage

_TIED_EMBEDDING, _GRADIENT_NORM = 0, 1


def append_step_end(
    scenario: Scenario,
    stages: tuple[Stage, ...],
    owners: Mapping[int, int],
    builder: ProgramBuilder,
    last_compute: Mapping[int, int],
    reduced: Mapping[int, Sequence[int]],
) -> None:
    """Append what every rank does after its last backward pass.

    Args:
        scenario: The request.
        stages: Its pipeline stages.
        owners: Rank of each stage.
        builder: Where to append.
        last_compute: Last op of each rank's compute stream.
        reduced: Ops that reduce each rank's gradients.
    """
    pp = scenario.parallelism.pp
    before = [[*reduced[rank], last_compute[rank]] for rank in range(pp)]
    if scenario.model.tie_word_embeddings and pp > 1:
        _sum_tied_embeddings(scenario, builder, before)
    everyone = Group(axis="dp", size=scenario.parallelism.gpus, stride=1)
    norm = Collective(kind="all_reduce", group=everyone, bytes=4.0, name="gradient norm")
    for rank in range(pp):
        clipped = before[rank]
        mine = [stage for number, stage in enumerate(stages) if owners[number] == rank]
        if everyone.size > 1:
            op = builder.add(
                OpKind.COLLECTIVE, rank, Stream.DP_REDUCE, norm, after=before[rank], join=_GRADIENT_NORM
            )
            clipped = [op]
        builder.add(OpKind.OPTIMIZER, rank, Stream.COMPUTE, _update(scenario, mine), after=clipped)
        builder.add(OpKind.OVERHEAD, rank, Stream.COMPUTE, StepOverhead())


def _sum_tied_embeddings(scenario: Scenario, builder: ProgramBuilder, before: list[list[int]]) -> None:
    """Sum the two copies' gradients over the first and the last pipeline rank (Megatron-LM)."""
    last = scenario.parallelism.pp - 1
    pair = Group(axis="pp", size=2, stride=last * stride(scenario.parallelism, "pp"))
    size = shapes_of(scenario).vocabulary * scenario.model.hidden_size * gradient_bytes(scenario)
    total = Collective(kind="all_reduce", group=pair, bytes=size, name="tied embedding gradients")
    for rank in (0, last):
        op = builder.add(
            OpKind.COLLECTIVE, rank, Stream.DP_REDUCE, total, after=before[rank], join=_TIED_EMBEDDING
        )
        before[rank] = [op]


def _update(scenario: Scenario, stages: Sequence[Stage]) -> Elementwise:
    """Return the optimizer step over the parameters that the rank updates: all, or its shard."""
    parts = [stage_parameters(scenario, stage) for stage in stages]
    dense, experts = sum(part.dense for part in parts), sum(part.experts for part in parts)
    if scenario.parallelism.sharding != "none":
        dense /= gradient_group(scenario.parallelism).size
        experts /= expert_gradient_group(scenario.parallelism).size
    size = (dense + experts) * scenario.software.optimizer_bytes_per_parameter
    return Elementwise(name="optimizer", bytes_moved=size)
