"""How a step ends: tied embeddings are summed, gradients clipped, weights updated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.workload.layers.low_precision import quantisation
from simulator.workload.parameters.counts import rank_parameters
from simulator.workload.parameters.model_states import ModelStates
from simulator.workload.parameters.optimizer_offload import append_offloaded_update
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.step.shared_parameters import sum_stage_copies, sum_tied_embeddings
from simulator.workload.work import Collective, Elementwise, Group, StepOverhead

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.scenario import Scenario
    from simulator.workload.parameters.bytes import ParameterBytes
    from simulator.workload.parameters.sharding import X
    from simulator.workload.parameters.stage_outline import StageOutline
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
    norm = norm_work(scenario.parallelism.gpus, post_validation=scenario.training.post_validation)
    states = ModelStates.of(scenario)
    for rank in range(pp):
        clipped = before[rank]
        mine = tuple(stages[number].outline for number in held[rank])
        end = rank_end(states, mine)
        if norm is not None:
            op = builder.add(
                OpKind.COLLECTIVE, rank, Stream.DP_REDUCE, norm, after=before[rank], join=_GRADIENT_NORM
            )
            clipped = [op]
        arrived: list[int] = []
        if end.update is not None:
            builder.add(OpKind.OPTIMIZER, rank, Stream.COMPUTE, end.update, after=clipped)
        if states.offload.share:
            arrived = append_offloaded_update(
                builder, rank, end.parameters, clipped, sizes=states.sizes, offload=states.offload
            )
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


@lru_cache(maxsize=16384)
def rank_end(states: ModelStates, stages: tuple[StageOutline, ...]) -> RankEnd:
    """Return how a step ends on a rank with such stages."""
    held = rank_parameters(states.local, stages)
    parameters = states.sharding.updated(held.dense, held.experts)
    on_gpu = parameters * (1.0 - states.offload.share)
    size = update_traffic(on_gpu, held.total, states.sizes, states.reduction_bytes)
    cast = (held.total - held.boundary) * states.sizes.cast
    return RankEnd(
        parameters=parameters,
        update=Elementwise(name="optimizer", bytes_moved=size, exact=True) if size else None,
        casts=Elementwise(name="weight casts", bytes_moved=cast, exact=True) if cast else None,
    )


def update_traffic(on_gpu: X, total: X, sizes: ParameterBytes, reduction_bytes: X | float) -> X:
    """Return the bytes in HBM that updating a rank's weights moves, passes over whole gradients included.

    Args:
        on_gpu: Parameters that the GPU updates.
        total: Parameters that the rank holds.
        sizes: Bytes of one parameter.
        reduction_bytes: Traffic around the reduction of gradients per parameter.
    """
    return on_gpu * sizes.update + total * reduction_bytes


@lru_cache(maxsize=1024)
def norm_work(gpus: int, *, post_validation: bool) -> Collective | None:
    """Return the sum over all ranks that the gradient norm takes, if any."""
    if gpus == 1 or post_validation:
        return None
    everyone = Group(axis="dp", size=gpus, stride=1)
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
