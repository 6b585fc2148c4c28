"""Memory over a timeline, metrics of a step, and the result as plain data."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hand_made_pipelines import one_f_one_b, timed
from hypothesis import given, settings
from hypothesis import strategies as st
from published_models import LLAMA3_405B, training

from simulator import catalogue
from simulator.engines.durations import Durations
from simulator.engines.event import run
from simulator.errors import InputError
from simulator.results.breakdown import Breakdown
from simulator.results.flops import CONVENTIONS, flops_per_token
from simulator.results.memory import TERMS, MemoryReport, RankMemory, activation_peaks, memory_report
from simulator.results.metrics import METRICS, peak_flop_per_s, peak_name, step_metrics
from simulator.results.result import make_result
from simulator.results.waiting import CATEGORIES
from simulator.scenario import Cluster, Measured, Parallelism, Scenario


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
    assert tuple(metrics) == METRICS


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
