"""How a step ends: tied embeddings are summed, gradients clipped, weights updated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.scenario.remembered import remembered
from simulator.workload.layers.low_precision import quantisation
from simulator.workload.parameters.bytes import update_bytes, weight_cast_bytes
from simulator.workload.parameters.counts import rank_parameters
from simulator.workload.parameters.optimizer_offload import append_offloaded_update, offloaded_share
from simulator.workload.parameters.sharding import dense_sharing, expert_sharing
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.step.shared_parameters import sum_stage_copies, sum_tied_embeddings
from simulator.workload.work import Collective, Elementwise, Group, StepOverhead

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.scenario import Scenario
    from simulator.workload.parameters.counts import RankParameters
    from simulator.workload.parameters.stage_outline import Outline
    from simulator.workload.step.stages import Stage

_GRADIENT_NORM = 1
_PRODUCTS_PER_LAYER = 4
"""Query-key-value, output, up and down products."""


def append_step_end(
    scenario: Scenario,
    stages: tuple[Stage, ...],
    held: Sequence[Sequence[int]],
    builder: ProgramBuilder,
    last_compute: Mapping[int, int],
    reduced: Mapping[int, Sequence[int]],
) -> None:
    """Append what every rank does after its last backward pass.

    Args:
        scenario: The request.
        stages: Its pipeline stages.
        held: Stages of each rank.
        builder: Where to append.
        last_compute: Last op of each rank's compute stream.
        reduced: Ops that reduce each rank's gradients.
    """
    pp = scenario.parallelism.pp
    before = [[*reduced[rank], last_compute[rank]] for rank in range(pp)]
    _agree_on_scales(scenario, builder, stages, held, before)
    sum_stage_copies(scenario, builder, stages, held, before)
    if scenario.model.tie_word_embeddings and pp > 1:
        sum_tied_embeddings(scenario, builder, held, before)
    norm = norm_work(scenario)
    for rank in range(pp):
        clipped = before[rank]
        mine = tuple(stages[number].outline for number in held[rank])
        end = rank_end(scenario, mine)
        if norm is not None:
            op = builder.add(
                OpKind.COLLECTIVE, rank, Stream.DP_REDUCE, norm, after=before[rank], join=_GRADIENT_NORM
            )
            clipped = [op]
        arrived: list[int] = []
        if end.update is not None:
            builder.add(OpKind.OPTIMIZER, rank, Stream.COMPUTE, end.update, after=clipped)
        if offloaded_share(scenario):
            arrived = append_offloaded_update(scenario, builder, rank, end.parameters, clipped)
        if end.casts is not None:
            arrived = [builder.add(OpKind.OPTIMIZER, rank, Stream.COMPUTE, end.casts, after=arrived)]
        builder.add(OpKind.OVERHEAD, rank, Stream.COMPUTE, StepOverhead(), after=arrived)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankEnd:
    """What a rank's own stages decide of the end of its step.

    Attributes:
        parameters: Parameters that it updates: all, or its shard.
        update: The update of those whose optimizer state is on the GPU, and passes over whole gradients.
        casts: Making low-precision copies of the weights.
    """

    parameters: float
    update: Elementwise | None
    casts: Elementwise | None


@remembered
def rank_end(scenario: Scenario, stages: tuple[Outline, ...]) -> RankEnd:
    """Return how a step ends on a rank with such stages."""
    held = rank_parameters(scenario, stages)
    parameters = _updated_parameters(scenario, held)
    size = parameters * (1.0 - offloaded_share(scenario)) * update_bytes(scenario)
    if scenario.parallelism.dp > 1:
        size += held.total * scenario.software.reduction_bytes_per_parameter
    cast = (held.total - held.boundary) * weight_cast_bytes(scenario)
    return RankEnd(
        parameters=parameters,
        update=Elementwise(name="optimizer", bytes_moved=size, exact=True) if size else None,
        casts=Elementwise(name="weight casts", bytes_moved=cast, exact=True) if cast else None,
    )


@remembered
def norm_work(scenario: Scenario) -> Collective | None:
    """Return the sum over all ranks that the gradient norm takes, if any."""
    everyone = Group(axis="dp", size=scenario.parallelism.gpus, stride=1)
    if everyone.size == 1 or scenario.training.post_validation:
        return None
    return Collective(kind="all_reduce", group=everyone, bytes=4.0, name="gradient norm")


def _agree_on_scales(
    scenario: Scenario,
    builder: ProgramBuilder,
    stages: tuple[Stage, ...],
    held: Sequence[Sequence[int]],
    before: list[list[int]],
) -> None:
    """Let delayed scaling agree on the largest value of each tensor over all ranks with the same layers.

    Transformer Engine does so once for the forward and once for the backward tensors: input and weight of
    each product, and its output gradient.
    """
    quantised = quantisation(scenario)
    everyone = Group(axis="dp", size=scenario.parallelism.gpus // scenario.parallelism.pp, stride=1)
    if quantised is None or not quantised.recipe.history or everyone.size == 1:
        return
    for rank in range(scenario.parallelism.pp):
        mine = [stages[number] for number in held[rank]]
        products = _PRODUCTS_PER_LAYER * sum(len(stage.layers) for stage in mine)
        for tensors in (2, 1):
            work = Collective(
                kind="all_reduce", group=everyone, bytes=4.0 * tensors * products, name="amax history"
            )
            op = builder.add(OpKind.COLLECTIVE, rank, Stream.DP_REDUCE, work, after=before[rank])
            before[rank] = [*before[rank], op]


def _updated_parameters(scenario: Scenario, held: RankParameters) -> float:
    """Return the parameters that the rank updates: all, or its shard."""
    if scenario.parallelism.sharding == "none":
        return held.dense + held.experts
    dense = held.dense / dense_sharing(scenario).shard.size
    return dense + held.experts / expert_sharing(scenario).shard.size
