"""Parameters of which two pipeline ranks hold copies: their gradients are summed before the update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.grid import Mesh
from simulator.workload.parameters.bytes import ParameterBytes
from simulator.workload.parameters.counts import LocalParameters, stage_parameters
from simulator.workload.parameters.sharding import StateSharding
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
    total = tied_work(
        LocalParameters.of(scenario).table,
        ParameterBytes.of(scenario).reduced,
        rank_pair(Mesh.of(scenario.parallelism).stride("pp"), first_rank, last_rank),
    )
    _join(builder, (first_rank, last_rank), total, before, _TIED_EMBEDDING)


def tied_work(table: int, reduced_bytes: float, pair: Group) -> Collective:
    """Return the sum of the two copies' gradients.

    Args:
        table: Parameters of the token table on one rank.
        reduced_bytes: Bytes of one gradient as it travels.
        pair: The ranks of the two stages.
    """
    size = table * reduced_bytes
    return Collective(kind="all_reduce", group=pair, bytes=size, name="tied embedding gradients")


def sum_stage_copies(
    scenario: Scenario,
    builder: ProgramBuilder,
    stages: Sequence[Stage],
    held: Sequence[Sequence[int]],
    before: list[list[int]],
) -> None:
    """Sum the gradients of stages that two ranks hold (DualPipe), each rank its shard of them."""
    local, sharding = LocalParameters.of(scenario), StateSharding.of(scenario.parallelism)
    reduced_bytes = ParameterBytes.of(scenario).reduced
    apart = Mesh.of(scenario.parallelism).stride("pp")
    for number, stage in enumerate(stages):
        ranks = [rank for rank, mine in enumerate(held) if number in mine]
        if len(ranks) < 2:
            continue
        part = stage_parameters(local, stage.outline)
        size = sharding.updated(part.dense, part.experts)
        total = Collective(
            kind="all_reduce",
            group=rank_pair(apart, ranks[0], ranks[1]),
            bytes=size * reduced_bytes,
            name="stage copies",
        )
        _join(builder, (ranks[0], ranks[1]), total, before, _FIRST_COPY + number)


def rank_pair(apart: int, one: int, other: int) -> Group:
    """Return the group of two pipeline ranks, neighbours being ``apart`` global ranks apart."""
    return Group(axis="pp", size=2, stride=abs(other - one) * apart)


def _join(
    builder: ProgramBuilder, ranks: tuple[int, int], total: Collective, before: list[list[int]], join: int
) -> None:
    for rank in ranks:
        op = builder.add(OpKind.COLLECTIVE, rank, Stream.DP_REDUCE, total, after=before[rank], join=join)
        before[rank] = [op]
