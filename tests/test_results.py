from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import catalogue
from simulator.costs.durations import Durations
from simulator.engines.event import run
from simulator.errors import InputError, SimulationError
from simulator.results.breakdown import Breakdown, block_shares, step_breakdown
from simulator.results.flops import CONVENTIONS, Convention, flops_per_token, hardware_flops_per_token
from simulator.results.memory import TERMS, MemoryReport, RankMemory, activation_peaks, memory_report
from simulator.results.metrics import peak_flop_per_s, peak_name, step_metrics
from simulator.results.result import make_result
from simulator.results.waiting import CATEGORIES
from simulator.scenario import (
    Cluster,
    Experts,
    LatentAttention,
    Measured,
    Model,
    Overlap,
    Parallelism,
    Scenario,
    Training,
)
from simulator.workload.program import OpKind, Program, ProgramBuilder, Stream
from simulator.workload.work import Collective, Elementwise, Group, Sequence, StepOverhead, Transfer

if TYPE_CHECKING:
    from simulator.engines.timeline import Timeline

GEMM = Elementwise(name="gemm", bytes_moved=1.0)


def reduction(axis: str, name: str = "") -> Collective:
    return Collective(kind="all_reduce", group=Group(axis=axis, size=2, stride=1), bytes=1.0, name=name)


def one_f_one_b(ranks: int, microbatches: int, *, data_parallel: bool = False) -> Program:
    """1F1B with a transfer between neighbours; each forward holds one byte until its backward ends."""
    builder = ProgramBuilder(rank_names=tuple(f"pp {rank}" for rank in range(ranks)))
    ops: dict[tuple[str, int, int], int] = {}
    for rank in range(ranks):
        warm_up = min(ranks - rank - 1, microbatches)
        order = [("F", i) for i in range(warm_up)]
        for i in range(microbatches - warm_up):
            order += [("F", warm_up + i), ("B", i)]
        order += [("B", i) for i in range(microbatches - warm_up, microbatches)]
        forward, backward = Sequence(f"forward {rank}", ()), Sequence(f"backward {rank}", ())
        for letter, i in order:
            is_forward = letter == "F"
            ops[letter, i, rank] = builder.add(
                OpKind.FORWARD if is_forward else OpKind.BACKWARD,
                rank,
                Stream.COMPUTE,
                forward if is_forward else backward,
                microbatch=i,
                stage=rank,
                allocated_bytes=float(is_forward),
                freed_bytes=float(not is_forward),
            )
    for rank in range(ranks - 1):
        for i in range(microbatches):
            for letter, source, target in (("F", rank, rank + 1), ("B", rank + 1, rank)):
                stream = Stream.PP_FORWARD if letter == "F" else Stream.PP_BACKWARD
                work = Transfer(bytes=1.0, stride=1, source=source, target=target)
                after = [ops[letter, i, source]]
                transfer = builder.add(OpKind.TRANSFER, source, stream, work, after=after)
                builder.wait(ops[letter, i, target], [transfer])
    if data_parallel:
        for rank in range(ranks):
            last = ops["B", microbatches - 1, rank]
            reduce = builder.add(OpKind.COLLECTIVE, rank, Stream.DP_REDUCE, reduction("dp_cp"), after=[last])
            builder.add(OpKind.OPTIMIZER, rank, Stream.COMPUTE, GEMM, after=[reduce])
            builder.add(OpKind.OVERHEAD, rank, Stream.COMPUTE, StepOverhead())
    return builder.build()


def timed(program: Program, forward: float, backward: float, transfer: float, other: float = 0.0) -> Timeline:
    by_kind = np.full(len(OpKind), other)
    by_kind[[OpKind.FORWARD, OpKind.BACKWARD, OpKind.TRANSFER]] = forward, backward, transfer
    return run(program, Durations.of(by_kind[program.kind]))


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
        if isinstance(item, Sequence)
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
    builder.add(OpKind.FORWARD, 0, Stream.COMPUTE, Sequence("forward", ()))
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


def model(layers: int, h: int, heads: int, kv: int, d: int, f: int, v: int, /, **rest: object) -> Model:
    return Model(
        name="m",
        num_hidden_layers=layers,
        hidden_size=h,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        head_dim=d,
        intermediate_size=f,
        vocab_size=v,
        **rest,
    )


def training(seq_length: int, recompute: str = "none", attention: str = "flash3", **rest: object) -> Training:
    return Training(
        seq_length=seq_length,
        micro_batch_size=1,
        global_batch_size=16,
        precision="bf16",
        recompute=recompute,
        attention=attention,
        grad_dtype="fp32",
        overlap=Overlap(grad_reduce=True, param_gather=True, p2p=True, tp=False),
        **rest,
    )


LLAMA3_405B = model(126, 16384, 128, 8, 128, 53248, 128256)
GPT3 = model(96, 12288, 96, 96, 128, 49152, 51200, gated=False, tie_word_embeddings=True)
MIXTRAL = model(
    32, 4096, 32, 8, 128, 14336, 32000,
    experts=Experts(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=14336),
)  # fmt: skip
QWEN3_235B = model(
    94, 4096, 64, 4, 128, 0, 151936,
    experts=Experts(num_experts=128, num_experts_per_tok=8, moe_intermediate_size=1536),
)  # fmt: skip
DEEPSEEK_V3 = model(
    61, 7168, 128, 128, 128, 18432, 129280,
    experts=Experts(
        num_experts=256,
        num_experts_per_tok=8,
        moe_intermediate_size=2048,
        num_shared_experts=1,
        first_k_dense_replace=3,
    ),
    latent_attention=LatentAttention(
        q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("subject", "seq_length", "convention", "gflops", "tolerance"),
    [
        # TFLOP/s over tokens/s where a source states both (Megatron-Bridge, MaxText, llm-foundry ...).
        (LLAMA3_405B, 8192, "causal", 2524.81, 1e-3),
        (LLAMA3_405B, 8192, "full", 2625.43, 1e-5),
        (model(80, 8192, 64, 8, 128, 28672, 128256), 8192, "full", 481.43, 1e-4),
        (model(32, 4096, 32, 8, 128, 14336, 128256), 8192, "full", 57.91, 1e-4),
        (MIXTRAL, 4096, "full", 82.93, 1e-4),
        (QWEN3_235B, 4096, "causal", 148.03, 3e-3),
        (DEEPSEEK_V3, 4096, "causal", 250.45, 1e-4),
        (DEEPSEEK_V3, 8192, "causal", 281.15, 1e-4),
        (replace(DEEPSEEK_V3, num_nextn_predict_layers=1), 4096, "causal", 260.0, 3e-3),
        (
            model(48, 7168, 56, 56, 128, 28672, 50368, gated=False, tie_word_embeddings=True),
            2048,
            "palm",
            188.18,
            1e-3,
        ),
    ],
)
def test_flops_per_token_agree_with_published_ratios(
    subject: Model, seq_length: int, convention: Convention, gflops: float, tolerance: float
) -> None:
    flops = flops_per_token(subject, training(seq_length), convention)
    assert flops / 1e9 == pytest.approx(gflops, rel=tolerance)


@given(l=st.integers(1, 128), a=st.integers(1, 128), d=st.sampled_from([64, 96, 128]), s=st.integers(1, 32))
@settings(max_examples=50, deadline=None)
def test_gpt_flops_follow_equation_3_of_narayanan(l: int, a: int, d: int, s: int) -> None:
    h, s, V = a * d, 128 * s, 51200
    gpt = model(l, h, a, a, d, 4 * h, V, gated=False)
    published = 96 * s * l * h**2 * (1 + s / (6 * h) + V / (16 * l * h))
    request = training(s, recompute="full", attention="unfused")
    assert flops_per_token(gpt, request, "recompute") * s == pytest.approx(published, rel=1e-12)
    assert hardware_flops_per_token(gpt, request) * s == pytest.approx(published, rel=1e-12)


def test_windows_and_recompute_count_what_they_leave_and_add() -> None:
    s, attention = 8192, 12 * 96 * 12288 * 8192
    windowed = replace(GPT3, sliding_window=4096)
    assert flops_per_token(GPT3, training(s), "full") - flops_per_token(windowed, training(s), "full") == (
        pytest.approx(attention / 2)
    )
    halves = flops_per_token(GPT3, training(s)) - flops_per_token(windowed, training(s))
    assert halves == pytest.approx(attention * (1 / 2 - 3 / 8))
    alternating = replace(windowed, sliding_window_every=2)
    assert flops_per_token(GPT3, training(s)) - flops_per_token(alternating, training(s)) == (
        pytest.approx(halves / 2)
    )
    for name, extra in (("selective", attention / 3), ("full", attention / 3 + 24 * 96 * 12288**2)):
        with_recompute = flops_per_token(GPT3, training(s, name), "recompute")
        assert with_recompute - flops_per_token(GPT3, training(s), "full") == pytest.approx(extra)
        assert flops_per_token(GPT3, training(s, name)) == flops_per_token(GPT3, training(s))
    fused, unfused = (hardware_flops_per_token(GPT3, training(s, attention=k)) for k in ("flash2", "unfused"))
    assert unfused - fused == pytest.approx(attention - attention / 2 * 3.5 / 3)


def test_activation_peaks_of_1f1b() -> None:
    timeline = timed(one_f_one_b(4, 8), 1.0, 2.0, 0.0)
    peak, final = activation_peaks(timeline)
    assert peak.tolist() == [4.0, 3.0, 2.0, 1.0]
    assert final.tolist() == [0.0] * 4


@given(ranks=st.integers(1, 5), microbatches=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_memory_never_exceeds_the_warm_up_and_returns_to_zero(
    ranks: int, microbatches: int, seed: int
) -> None:
    program = one_f_one_b(ranks, microbatches)
    random = np.random.default_rng(seed)
    peak, final = activation_peaks(run(program, Durations.of(random.integers(0, 3, program.num_ops) * 1.0)))
    assert peak.tolist() == [float(min(ranks - rank, microbatches)) for rank in range(ranks)]
    assert not final.any()


def test_memory_report_names_the_worst_rank_and_the_term_that_breaks_it() -> None:
    timeline = timed(one_f_one_b(2, 4), 1.0, 2.0, 0.0)
    static = [{"framework": 1.0, "weights": 10.0, "optimizer": 3.0}, {"framework": 1.0, "weights": 12.0}]
    fitting = memory_report(timeline, static, capacity_bytes=20.0, fragmentation=0.1)
    assert fitting.worst.name == "pp 0"
    assert fitting.peak_bytes == pytest.approx(1 + 10 + 3 + 2 * 1.1)
    assert (fitting.fits, fitting.breaking_term) == (True, None)
    expected = {16.1: "fragmentation", 15.0: "activations", 13.0: "optimizer", 10.5: "weights"}
    for capacity, term in expected.items():
        report = replace(fitting, capacity_bytes=capacity)
        assert (report.fits, report.breaking_term) == (False, term)


def scenario(**training_fields: object) -> Scenario:
    gpu, network = catalogue.gpu("h100-80gb-sxm"), catalogue.network("rail-optimised-400g")
    request = training(8192, **training_fields)
    return Scenario(
        name="example",
        cluster=Cluster(
            gpu=gpu, gpus=16, gpus_per_node=8, scale_up_domain=8, network=network, price_per_gpu_hour=2.5
        ),
        model=LLAMA3_405B,
        parallelism=Parallelism(
            tp=8,
            pp=2,
            vpp=1,
            cp=1,
            ep=1,
            dp=1,
            sequence_parallel=True,
            schedule="1f1b",
            sharding="none",
            stage_layers=(63, 63),
        ),
        training=request,
        software=catalogue.software("megatron-core"),
        measured=Measured(values={"tflops_per_gpu": 400.0, "loss": 2.0}, source="arXiv:2407.21783"),
        warnings=("first",),
    )


def no_memory(ranks: int = 2) -> MemoryReport:
    names = (f"pp {rank}" for rank in range(ranks))
    return MemoryReport(
        ranks=tuple(RankMemory(name=name, weights=70e9) for name in names), capacity_bytes=80e9
    )


def test_metrics_by_hand() -> None:
    seconds = 16 * 8192 * flops_per_token(LLAMA3_405B, training(8192)) / (16 * 400e12)
    breakdown = Breakdown.of([0.0 if name != "exposed_tp" else seconds / 4 for name in CATEGORIES], seconds)
    metrics = step_metrics(scenario(tokens=15e12), seconds, breakdown, no_memory())
    assert metrics["tflops_per_gpu"] == metrics["tflops_per_gpu_causal"] == pytest.approx(400.0)
    assert metrics["mfu"] == pytest.approx(400 / 989)
    assert metrics["tokens_per_s_per_gpu"] == pytest.approx(8192 / seconds)
    assert metrics["bubble_fraction"] == pytest.approx(0.75)
    assert metrics["exposed_tp_fraction"] == metrics["exposed_communication_fraction"] == pytest.approx(0.25)
    gpu_hours = 15e12 / (8192 / seconds) / 3600
    assert metrics["gpu_hours"] == pytest.approx(gpu_hours)
    assert metrics["days"] == pytest.approx(gpu_hours / 16 / 24)
    assert metrics["cost_dollars"] == pytest.approx(2.5 * gpu_hours)
    assert metrics["peak_memory_bytes"] == 70e9


def test_utilisation_names_the_peak_of_the_precision() -> None:
    cluster = scenario().cluster
    assert peak_name(cluster, "bf16") == "989 TFLOP/s bf16 dense (h100-80gb-sxm)"
    assert peak_name(cluster, "fp8") == "1979 TFLOP/s fp8 dense (h100-80gb-sxm)"
    with pytest.raises(InputError, match=r"has no fp4 peak; it has .*bf16, fp8"):
        peak_flop_per_s(cluster, "fp4")


def test_result_is_plain_json_with_stable_keys() -> None:
    timeline = timed(one_f_one_b(2, 16), 1.0, 2.0, 0.5)
    result = make_result(scenario(), timeline, shares={}, memory=no_memory(), warnings=("second",))
    document = result.to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert list(document) == [
        "name", "step_time_s", "tflops_per_gpu", "flops_convention", "tflops_per_gpu_by_convention", "mfu",
        "mfu_peak", "hfu", "tokens_per_s_per_gpu", "tokens_per_s", "samples_per_s", "bubble_fraction",
        "breakdown_s", "breakdown_per_rank_s", "memory", "days", "gpu_hours", "cost_dollars", "measured",
        "warnings", "digest", "version",
    ]  # fmt: skip
    assert list(document["breakdown_s"]) == list(CATEGORIES)
    assert math.fsum(document["breakdown_s"].values()) == pytest.approx(document["step_time_s"], rel=1e-15)
    assert list(document["tflops_per_gpu_by_convention"]) == list(CONVENTIONS)
    assert list(document["memory"]["ranks"][0]["terms_bytes"]) == list(TERMS)
    assert document["days"] is document["gpu_hours"] is document["cost_dollars"] is None
    predicted = document["tflops_per_gpu"]
    assert document["measured"]["values"] == {
        "tflops_per_gpu": {"published": 400.0, "predicted": predicted, "error": predicted / 400.0 - 1},
        "loss": {"published": 2.0, "predicted": None, "error": None},
    }
    assert document["warnings"] == ["first", "second"]
