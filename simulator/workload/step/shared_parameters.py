"""Parameters of which two pipeline ranks hold copies: their gradients are summed before the update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.scenario.remembered import remembered
from simulator.workload.grid import stride
from simulator.workload.layers.local_sizes import vocabulary_rows
from simulator.workload.parameters.counts import reduced_bytes, stage_parameters
from simulator.workload.parameters.sharding import dense_sharing, expert_sharing
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.work import Collective, Group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.workload.step.stages import Stage

_TIED_EMBEDDING = 0
_FIRST_COPY = 1_000
"""Joins of stage copies are numbered from here; smaller numbers belong to the end of the step."""


def sum_tied_embeddings(
    scenario: Scenario, builder: ProgramBuilder, held: Sequence[Sequence[int]], before: list[list[int]]
) -> None:
    """Sum the two copies' gradients over the ranks of the first and of the last stage (Megatron-LM).

    A rank that holds both stages has one table.
    """
    last = max(max(stages) for stages in held)
    first_rank = next(rank for rank, stages in enumerate(held) if 0 in stages)
    last_rank = next(rank for rank, stages in enumerate(held) if last in stages)
    if first_rank == last_rank:
        return
    total = tied_work(scenario, first_rank, last_rank)
    _join(builder, (first_rank, last_rank), total, before, _TIED_EMBEDDING)


@remembered
def tied_work(scenario: Scenario, first_rank: int, last_rank: int) -> Collective:
    """Return the sum of the two copies' gradients."""
    pair = _pair(scenario, first_rank, last_rank)
    rows = vocabulary_rows(scenario.model.vocab_size, scenario.parallelism.tp)
    size = rows * scenario.model.hidden_size * reduced_bytes(scenario)
    return Collective(kind="all_reduce", group=pair, bytes=size, name="tied embedding gradients")


def sum_stage_copies(
    scenario: Scenario,
    builder: ProgramBuilder,
    stages: Sequence[Stage],
    held: Sequence[Sequence[int]],
    before: list[list[int]],
) -> None:
    """Sum the gradients of stages that two ranks hold (DualPipe), each rank its shard of them."""
    dense, experts = dense_sharing(scenario), expert_sharing(scenario)
    is_sharded = scenario.parallelism.sharding != "none"
    for number, stage in enumerate(stages):
        ranks = [rank for rank, mine in enumerate(held) if number in mine]
        if len(ranks) < 2:
            continue
        part = stage_parameters(scenario, stage.outline)
        size = part.dense / (dense.shard.size if is_sharded else 1)
        size += part.experts / (experts.shard.size if is_sharded else 1)
        total = Collective(
            kind="all_reduce",
            group=_pair(scenario, ranks[0], ranks[1]),
            bytes=size * reduced_bytes(scenario),
            name="stage copies",
        )
        _join(builder, (ranks[0], ranks[1]), total, before, _FIRST_COPY + number)


def _pair(scenario: Scenario, one: int, other: int) -> Group:
    return Group(axis="pp", size=2, stride=abs(other - one) * stride(scenario.parallelism, "pp"))


def _join(
    builder: ProgramBuilder, ranks: tuple[int, int], total: Collective, before: list[list[int]], join: int
) -> None:
    for rank in ranks:
        op = builder.add(OpKind.COLLECTIVE, rank, Stream.DP_REDUCE, total, after=before[rank], join=join)
        before[rank] = [op]
