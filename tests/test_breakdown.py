"""The step time divides into categories exactly, whatever waits for whom."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hand_made_pipelines import GEMM, one_f_one_b, reduction, timed
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engines.durations import Durations
from simulator.engines.event import run
from simulator.errors import SimulationError
from simulator.results.breakdown import Breakdown, block_shares, step_breakdown
from simulator.workload.program import BlockSequence, OpKind, ProgramBuilder, Stream
from simulator.workload.work import Transfer

if TYPE_CHECKING:
    from simulator.engines.timeline import Timeline


@given(
    ranks=st.integers(1, 5),
    microbatches=st.integers(1, 8),
    seed=st.integers(0, 2**32 - 1),
    free=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_categories_are_never_negative_and_sum_to_the_step_time_exactly(
    ranks: int, microbatches: int, seed: int, free: float
) -> None:
    program = one_f_one_b(ranks, microbatches, data_parallel=True)
    random = np.random.default_rng(seed)
    durations = random.exponential(1.0, program.num_ops) * (random.random(program.num_ops) >= free)
    timeline = run(program, Durations.of(durations))
    shares = {
        work: {"compute": random.random(), "exposed_tp": random.random()}
        for work, item in enumerate(program.works)
        if isinstance(item, BlockSequence)
    }
    mean, per_rank = step_breakdown(timeline, shares)
    total = timeline.makespan_s
    for part in (mean, *per_rank):
        assert min(part.as_dict().values()) >= 0
        assert abs(part.total_s - total) <= math.ulp(total)
    passes = [OpKind.FORWARD, OpKind.BACKWARD]
    for rank, part in enumerate(per_rank):
        own = program.rank == rank
        busy = durations[own & np.isin(program.kind, passes)].sum()
        assert part.compute + part.exposed_tp == pytest.approx(busy)
        assert part.optimizer == pytest.approx(durations[own & (program.kind == OpKind.OPTIMIZER)].sum())
        assert part.overhead == pytest.approx(durations[own & (program.kind == OpKind.OVERHEAD)].sum())
        assert part.exposed_dp == pytest.approx(durations[own & (program.kind == OpKind.COLLECTIVE)].sum())


@given(ranks=st.integers(1, 6), extra=st.integers(0, 8))
@settings(max_examples=25, deadline=None)
def test_with_free_transfers_all_idle_time_is_the_closed_form_bubble(ranks: int, extra: int) -> None:
    timeline = timed(one_f_one_b(ranks, ranks + extra), 1.0, 2.0, 0.0)
    mean, per_rank = step_breakdown(timeline, {})
    assert [part.bubble for part in per_rank] == [3.0 * (ranks - 1)] * ranks
    assert mean.compute == 3.0 * (ranks + extra)
    assert mean.exposed_s == 0


def test_two_ranks_and_one_micro_batch_by_hand() -> None:
    mean, (first, second) = step_breakdown(timed(one_f_one_b(2, 1), 1.0, 2.0, 0.5), {})
    # Rank 0: F 0-1, idle 1-5 (the gradient is on its way 4.5-5), B 5-7.
    assert (first.compute, first.exposed_pp, first.bubble) == (3.0, 0.5, 3.5)
    # Rank 1: idle 0-1.5 (the activation is on its way 1-1.5), F 1.5-2.5, B 2.5-4.5, idle to 7.
    assert (second.compute, second.exposed_pp, second.bubble) == (3.0, 0.5, 3.5)
    assert mean.total_s == 7.0


def test_transfers_that_queue_behind_each_other_are_all_exposed() -> None:
    builder = ProgramBuilder(rank_names=("pp 0", "pp 1"))
    send = Transfer(bytes=1.0, stride=1, source=0, target=1)
    produce = builder.add(OpKind.FORWARD, 0, Stream.COMPUTE, GEMM)
    builder.add(OpKind.TRANSFER, 0, Stream.PP_FORWARD, send, after=[produce])
    second = builder.add(OpKind.TRANSFER, 0, Stream.PP_FORWARD, send, after=[produce])
    builder.add(OpKind.FORWARD, 1, Stream.COMPUTE, GEMM, after=[second])
    timeline = run(builder.build(), Durations.of(np.array([1.0, 0.25, 0.5, 2.0])))
    _, (first, second_rank) = step_breakdown(timeline, {})
    assert (second_rank.bubble, second_rank.exposed_pp, second_rank.compute) == (1.0, 0.75, 2.0)
    assert (first.compute, first.bubble) == (1.0, 2.75)


def test_a_joined_transfer_is_exposed_only_once_both_ends_are_ready() -> None:
    builder = ProgramBuilder(rank_names=("pp 0", "pp 1"))
    work = Transfer(bytes=1.0, stride=1, source=0, target=1)
    produce = builder.add(OpKind.FORWARD, 0, Stream.COMPUTE, GEMM)
    builder.add(OpKind.TRANSFER, 0, Stream.PP_FORWARD, work, after=[produce], join=0)
    receive = builder.add(OpKind.TRANSFER, 1, Stream.PP_FORWARD, work, join=0)
    builder.add(OpKind.FORWARD, 1, Stream.COMPUTE, GEMM, after=[receive])
    timeline = run(builder.build(), Durations.of(np.array([1.0, 0.5, 0.5, 2.0])))
    _, (_, second) = step_breakdown(timeline, {})
    assert (second.bubble, second.exposed_pp, second.compute) == (1.0, 0.5, 2.0)


def test_data_parallel_communication_counts_where_it_is_waited_for() -> None:
    builder = ProgramBuilder(rank_names=("pp 0",))
    gather = builder.add(OpKind.COLLECTIVE, 0, Stream.DP_GATHER, reduction("dp", "gather"))
    backward = builder.add(OpKind.BACKWARD, 0, Stream.COMPUTE, GEMM, after=[gather])
    builder.add(OpKind.BACKWARD, 0, Stream.COMPUTE, GEMM)
    bucket = builder.add(OpKind.COLLECTIVE, 0, Stream.DP_REDUCE, reduction("dp", "bucket"), after=[backward])
    step = builder.add(OpKind.OPTIMIZER, 0, Stream.COMPUTE, GEMM, after=[bucket])
    builder.add(OpKind.COLLECTIVE, 0, Stream.DP_GATHER, reduction("edp"), after=[step])
    timeline = run(builder.build(), Durations.of(np.array([0.5, 2.0, 1.0, 1.75, 0.25, 0.125])))
    mean, _ = step_breakdown(timeline, {})
    assert mean.exposed_dp == 0.5 + 0.75 + 0.125
    assert (mean.compute, mean.optimizer, mean.bubble) == (3.0, 0.25, 0.0)


def test_a_collective_on_the_compute_stream_counts_by_its_axis_and_shares_scale_with_an_op() -> None:
    builder = ProgramBuilder(rank_names=("pp 0",))
    builder.add(OpKind.FORWARD, 0, Stream.COMPUTE, BlockSequence("forward", ()))
    builder.add(OpKind.COLLECTIVE, 0, Stream.COMPUTE, reduction("tp_ep"))
    timeline = run(builder.build(), Durations.of(np.array([4.0, 1.0])))
    mean, _ = step_breakdown(timeline, {0: {"compute": 1.5, "exposed_cp": 0.5}})
    assert (mean.compute, mean.exposed_cp, mean.exposed_ep) == (3.0, 1.0, 1.0)


def layer(*, overlapped: bool) -> Timeline:
    builder = ProgramBuilder(rank_names=("gpu",))
    first = builder.add(OpKind.KERNEL, 0, Stream.COMPUTE, GEMM)
    collective = builder.add(OpKind.COLLECTIVE, 0, Stream.TP, reduction("tp"), after=[first])
    second = builder.add(OpKind.KERNEL, 0, Stream.COMPUTE, GEMM, after=[] if overlapped else [collective])
    ring = Transfer(bytes=1.0, stride=1, source=0, target=0)
    builder.add(OpKind.TRANSFER, 0, Stream.CP, ring, after=[second, collective])
    return run(builder.build(), Durations.of(np.array([1.0, 0.5, 2.0, 0.25])))


def test_block_shares_of_an_exposed_and_an_overlapped_collective() -> None:
    assert block_shares(layer(overlapped=False)) == {"compute": 3.0, "exposed_tp": 0.5, "exposed_cp": 0.25}
    assert block_shares(layer(overlapped=True)) == {"compute": 3.0, "exposed_cp": 0.25}


def test_overlapping_ops_of_one_stream_are_refused() -> None:
    with pytest.raises(SimulationError, match="exceed the step time"):
        Breakdown.of([1.5, *[0.0] * 8], 1.0)
