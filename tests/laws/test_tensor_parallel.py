"""Laws of tensor parallelism: work and traffic over shapes, and what overlapping may change."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from factories import GPU, MODEL, SOFTWARE, make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from laws.layers import head, layer, layer_flops, layer_s, ops, sent_bytes
from simulator.costs.gemm import gemm_s
from simulator.costs.system import System
from simulator.durations.contention import slowed
from simulator.engines import event
from simulator.engines.durations import Durations
from simulator.scenario import Overlap
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.work import Collective, Gemm, Group

if TYPE_CHECKING:
    from simulator.scenario import Scenario

FAST = settings(max_examples=20, deadline=None)
HABITS = st.fixed_dictionaries(
    {
        "wgrad_overlaps_tp": st.booleans(),
        "tp_reduce_pieces": st.sampled_from([0, 2, 4]),
        "keeps_gathered_input": st.booleans(),
        "separate_projections": st.booleans(),
        "gate_apart": st.booleans(),
    }
)


def with_habits(scenario: Scenario, habits: dict[str, object], *, tp: bool) -> Scenario:
    overlap = Overlap(grad_reduce=True, param_gather=True, p2p=True, tp=tp)
    return replace(
        scenario,
        software=replace(scenario.software, overlap=overlap, **habits),  # type: ignore[arg-type]
        training=replace(scenario.training, overlap=overlap),
    )


@FAST
@given(tp=st.sampled_from([2, 4, 8]), sp=st.booleans(), overlap=st.booleans(), habits=HABITS)
def test_ranks_divide_the_work_of_a_layer(
    tp: int, sp: bool, overlap: bool, habits: dict[str, object]
) -> None:
    scenario = with_habits(make_scenario(tp=tp, sequence_parallel=sp), habits, tp=overlap)
    assert tp * layer_flops(scenario) == pytest.approx(layer_flops(make_scenario()), rel=1e-12)


@FAST
@given(tp=st.sampled_from([2, 4, 8]), seq=st.sampled_from([2048, 4096]))
def test_sequence_parallelism_moves_as_much_as_all_reduces(tp: int, seq: int) -> None:
    """Korthikanti et al., arXiv:2205.05198, section 4.2.2: g and g-bar move what f and f-bar did.

    Four all-reduces of s b h elements per layer; sequence parallelism gathers each of the two saved inputs
    once more.
    """
    ring = (tp - 1) / tp * seq * MODEL.hidden_size * 2
    plain, divided = (
        [
            sent_bytes(block, "tp")
            for block in layer(make_scenario(tp=tp, seq_length=seq, sequence_parallel=sp))
        ]
        for sp in (False, True)
    )
    assert plain == pytest.approx([4 * ring, 4 * ring])
    assert divided == pytest.approx([4 * ring, 4 * ring + 2 * ring])


@FAST
@given(tp=st.sampled_from([2, 4, 8]), sp=st.booleans())
def test_a_gate_of_its_own_sums_another_input_gradient(tp: int, sp: bool) -> None:
    joined = make_scenario(tp=tp, sequence_parallel=sp)
    apart = with_habits(joined, {"gate_apart": True}, tp=False)
    ring = 2 * (tp - 1) / tp * joined.training.seq_length * MODEL.hidden_size * 2
    (forward, backward), (_, more) = (
        [sent_bytes(block, "tp") for block in layer(with_habits(each, {}, tp=False))]
        for each in (joined, apart)
    )
    assert next(sent_bytes(block, "tp") for block in layer(apart)) == pytest.approx(forward)
    assert more == pytest.approx(backward + (0 if sp else ring))


@FAST
@given(tp=st.sampled_from([2, 4, 8]), habits=HABITS)
def test_pieces_move_what_the_whole_collective_moves(tp: int, habits: dict[str, object]) -> None:
    whole, pieces = (
        [sent_bytes(block, "tp") for block in layer(with_habits(make_scenario(tp=tp), habits, tp=overlap))]
        for overlap in (False, True)
    )
    assert pieces == pytest.approx(whole)


@FAST
@given(tp=st.sampled_from([2, 4, 8]), habits=HABITS, latency=st.floats(0, 2e-6))
def test_overlap_costs_at_most_what_its_pieces_add(
    tp: int, habits: dict[str, object], latency: float
) -> None:
    """Pieces add latencies and, with fewer rows, tiles; 10% covers both on these shapes."""
    gpu = replace(GPU, scale_up_latency_s=latency)
    base = make_scenario(tp=tp, gpu=gpu, seq_length=8192)
    apart, together = (layer_s(with_habits(base, habits, tp=overlap)) for overlap in (False, True))
    assert together <= apart * 1.1


def test_overlap_hides_most_of_the_communication() -> None:
    habits: dict[str, object] = {"tp_reduce_pieces": 4}
    base = make_scenario(tp=4, seq_length=8192)
    slow = with_habits(base, habits, tp=False)
    assert layer_s(with_habits(base, habits, tp=True)) < 0.97 * layer_s(slow)


@FAST
@given(m=st.integers(1, 64), count=st.integers(1, 8))
def test_pieces_of_a_product_cost_no_less_than_the_whole(m: int, count: int) -> None:
    whole = Gemm(name="", m=256 * m * count, n=4096, k=4096, dtype="bf16")
    piece = replace(whole, m=256 * m, pieces=count)
    assert count * gemm_s(piece, GPU) >= gemm_s(whole, GPU) * (1 - 1e-9)
    assert count * gemm_s(piece, GPU) <= count * gemm_s(replace(piece, pieces=1), GPU)


@FAST
@given(kernel=st.floats(0.1, 10), collective=st.floats(0.1, 10), held=st.integers(0, 132))
def test_a_collective_slows_the_kernel_beside_it_by_what_it_holds(
    kernel: float, collective: float, held: int
) -> None:
    builder = ProgramBuilder(rank_names=("gpu 0",))
    group = Group(axis="tp", size=2, stride=1)
    builder.add(OpKind.KERNEL, 0, Stream.COMPUTE, Gemm(name="", m=1, n=1, k=1, dtype="bf16"))
    builder.add(OpKind.COLLECTIVE, 0, Stream.TP, Collective(kind="all_gather", group=group, bytes=1.0))
    program = builder.build()
    software = replace(SOFTWARE, collective_multiprocessors=held)
    system = System(cluster=make_scenario().cluster, software=software)
    alone = Durations.of(np.array([kernel, collective]))
    timeline = event.run(program, alone)
    after = slowed(program, alone, timeline.start_s, timeline.end_s, system)
    lost = min(kernel, collective) * held / GPU.multiprocessors
    assert after.fixed_s.tolist() == pytest.approx([kernel + lost, collective])


@FAST
@given(tp=st.sampled_from([2, 4, 8]), sp=st.booleans())
def test_parallel_blocks_halve_the_collectives_and_keep_the_work(tp: int, sp: bool) -> None:
    """PaLM, arXiv:2204.02311, section 2: one reduction per layer and direction instead of two."""
    model = replace(MODEL, parallel_blocks=True)
    apart, joined = (make_scenario(tp=tp, sequence_parallel=sp, model=kind) for kind in (MODEL, model))
    assert layer_flops(joined) == layer_flops(apart)
    for one, two in zip(layer(joined), layer(apart), strict=True):
        assert sent_bytes(one, "tp") == pytest.approx(sent_bytes(two, "tp") / 2)
    assert layer_s(joined) < layer_s(apart)


@FAST
@given(tp=st.sampled_from([1, 2, 8]), chunks=st.sampled_from([2, 4, 8]))
def test_a_loss_in_chunks_does_the_same_work_with_fewer_logits(tp: int, chunks: int) -> None:
    whole = make_scenario(tp=tp)
    divided = replace(whole, training=replace(whole.training, loss_chunks=chunks))
    flops, traffic, kept = [], [], []
    for scenario in (whole, divided):
        blocks = (head(scenario).forward, head(scenario).backward)
        gemms = [work for block in blocks for work in ops(block.program) if isinstance(work, Gemm)]
        flops.append(sum(gemm.flops for gemm in gemms))
        traffic.append([sent_bytes(block, "tp") for block in blocks])
        kept.append(head(scenario).saved_bytes)
    assert flops[0] == pytest.approx(flops[1])
    assert traffic[0] == [pytest.approx(size) for size in traffic[1]]
    logits = whole.training.seq_length * -(-MODEL.vocab_size // (128 * tp)) * 128 * 2
    assert kept[0] - kept[1] == pytest.approx(logits * (1 - 1 / chunks))
