"""Pipeline stages on different accelerators: laws and closed forms."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from factories import GPU, NETWORK, make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import files
from simulator.api import simulate
from simulator.costs.system import System, between
from simulator.durations.layers import sequence_seconds
from simulator.durations.price import price
from simulator.errors import ScenarioError
from simulator.files.layers import balanced
from simulator.scenario import Pool, Scenario
from simulator.workload.program import OpKind
from simulator.workload.step.build import build_step
from simulator.workload.work import Transfer

if TYPE_CHECKING:
    from pathlib import Path

SLOW = replace(
    GPU,
    name="slow-gpu",
    peak_flop_per_s={name: peak / 3 for name, peak in GPU.peak_flop_per_s.items()},
    memory_bytes=40e9,
    memory_bytes_per_s=GPU.memory_bytes_per_s / 3,
)
SLOW_NETWORK = replace(NETWORK, name="slow-network", bytes_per_s_per_gpu=12.5e9)


def pool(gpus: int, *, slow: bool) -> Pool:
    gpu, network = (SLOW, SLOW_NETWORK) if slow else (GPU, NETWORK)
    return Pool(gpu=gpu, gpus=gpus, gpus_per_node=8, scale_up_domain=8, network=network)


def mixed(pools: tuple[bool, ...], *, tp: int = 2, dp: int = 4, layers: tuple[int, ...] = ()) -> Scenario:
    """Return a scenario whose pipeline ranks each sit on a pool of their own, slow or fast."""
    scenario = make_scenario(tp=tp, pp=len(pools), dp=dp, microbatches=8, seq_length=2048, sharding="zero1")
    parts = tuple(pool(tp * dp, slow=slow) for slow in pools)
    cluster = replace(scenario.cluster, gpu=parts[0].gpu, network=parts[0].network, pools=parts)
    parallelism = replace(scenario.parallelism, stage_layers=layers or scenario.parallelism.stage_layers)
    return replace(scenario, cluster=cluster, parallelism=parallelism)


@settings(max_examples=10, deadline=None)
@given(pp=st.sampled_from([2, 4]), tp=st.sampled_from([1, 8]), dp=st.sampled_from([1, 4]))
def test_equal_pools_are_a_plain_cluster(pp: int, tp: int, dp: int) -> None:
    plain = make_scenario(tp=tp, pp=pp, dp=dp, microbatches=4, seq_length=2048)
    parts = tuple(pool(tp * dp, slow=False) for _ in range(pp))
    pooled = replace(plain, cluster=replace(plain.cluster, pools=parts))
    one, other = simulate(plain), simulate(pooled)
    # Messages between pools are priced as leaving the domain; inside a node a plain cluster keeps them in.
    if tp * dp >= 8:
        assert other.metrics["step_time_s"] == pytest.approx(one.metrics["step_time_s"], rel=1e-9)
    assert other.metrics["mfu"] * one.metrics["tflops_per_gpu"] == pytest.approx(
        one.metrics["mfu"] * other.metrics["tflops_per_gpu"]
    )


def test_each_stage_runs_at_the_speed_of_its_own_pool() -> None:
    scenario = mixed((False, True))
    program = build_step(scenario).program
    system = System.of(scenario)
    seconds = sequence_seconds(program, system)
    durations = price(program, system, seconds).alone_s()
    for slow, rank in ((False, 0), (True, 1)):
        alone = replace(scenario, cluster=replace(scenario.cluster.part(pool(8, slow=slow)), gpus=16))
        whole = System.of(alone)
        expected = sequence_seconds(program, whole)
        mine = (program.rank == rank) & (program.kind == OpKind.FORWARD)
        wanted = [expected[work] for work in program.work[mine].tolist()]
        # The spread among GPUs is that of the pool, not of the whole job; the test GPU has none.
        np.testing.assert_allclose(durations[mine], wanted)


@settings(max_examples=8, deadline=None)
@given(order=st.permutations([False, False, True]))
def test_a_mixture_lies_between_its_parts(order: list[bool]) -> None:
    fast, slow = mixed((False,) * 3), mixed((True,) * 3)
    times = [simulate(one).metrics["step_time_s"] for one in (fast, mixed(tuple(order)), slow)]
    assert times == sorted(times)
    assert times[0] < times[1]


def test_messages_between_pools_take_the_slower_nic() -> None:
    scenario = mixed((False, True))
    system = System.of(scenario)
    message = Transfer(bytes=1e9, stride=8, source=0, target=1)
    ends = between(system.ranks, 16)
    assert system.carrier(message, 0) == replace(ends, scale_up_domain=1)
    assert ends.network == SLOW_NETWORK
    program = build_step(scenario).program
    seconds = dict.fromkeys(range(len(program.works)), 1.0)
    durations = price(program, system, seconds)
    transfers = np.flatnonzero(program.kind == OpKind.TRANSFER)
    size = program.works[program.work[transfers[0]]].bytes  # type: ignore[union-attr]
    rate = SLOW_NETWORK.bytes_per_s_per_gpu * SLOW_NETWORK.efficiency
    alone = durations.alone_s()[transfers] - durations.fixed_s[transfers]
    np.testing.assert_allclose(alone, size / rate)


def test_memory_and_utilisation_are_those_of_each_pool_and_of_the_mean() -> None:
    result = simulate(mixed((False, True), layers=(6, 2)))
    assert [rank.capacity_bytes for rank in result.memory.ranks] == [80e9, 40e9]
    peak = (GPU.peak_flop_per_s["bf16"] + SLOW.peak_flop_per_s["bf16"]) / 2
    assert result.metrics["mfu"] == pytest.approx(result.metrics["tflops_per_gpu"] * 1e12 / peak)
    assert "mean of 8 x test-gpu + 8 x slow-gpu" in result.mfu_peak
    heavy = simulate(mixed((False, True), layers=(1, 7)))
    assert heavy.memory.worst.name == "pp 1"
    assert heavy.memory.capacity_bytes == 40e9


def test_balanced_layers_beat_even_ones_on_a_mixture() -> None:
    even, fitted = mixed((False, True)), mixed((False, True), layers=balanced(8, [3.0, 1.0]))
    assert fitted.parallelism.stage_layers == (6, 2)
    assert simulate(fitted).metrics["step_time_s"] < simulate(even).metrics["step_time_s"]


@settings(max_examples=50, deadline=None)
@given(layers=st.integers(1, 130), speeds=st.lists(st.floats(0.2, 5.0), min_size=1, max_size=16))
def test_no_layer_can_move_to_make_the_slowest_stage_faster(layers: int, speeds: list[float]) -> None:
    held = balanced(layers, speeds)
    assert sum(held) == layers
    slowest = max(count / speed for count, speed in zip(held, speeds, strict=True))
    assert all((count + 1) / speed >= slowest - 1e-12 for count, speed in zip(held, speeds, strict=True))


POOLS = """
cluster:
  pools:
    - {gpu: h100-80gb-sxm, gpus: %d}
    - {gpu: a100-80gb-sxm, gpus: %d%s}
model: llama3-8b
parallelism: {tp: 4, pp: 4, layers: balanced%s}
training: {seq_length: 4096, global_batch_size: 64, precision: %s}
"""


def load(
    tmp_path: Path, one: int, two: int, more: str = "", layout: str = "", precision: str = "bf16"
) -> Scenario:
    path = tmp_path / "mixed.yaml"
    path.write_text(POOLS % (one, two, more, layout, precision))
    return files.load(path)


def test_pools_are_read_from_a_file(tmp_path: Path) -> None:
    scenario = load(tmp_path, 32, 32, ", price_per_gpu_hour: 1 $/h")
    assert scenario.cluster.gpus == 64
    assert scenario.cluster.price_per_gpu_hour is None
    assert [part.gpu.name for part in scenario.cluster.of_pipeline_ranks(4)] == [
        *["h100-80gb-sxm"] * 2,
        *["a100-80gb-sxm"] * 2,
    ]
    first, *_, last = scenario.parallelism.stage_layers
    assert first > 2 * last
    assert any("cluster.network is assumed" in warning for warning in scenario.warnings)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((32, 24), "cluster.gpus: 56 GPUs"),
        ((40, 24), "cluster.pools.0.gpus: 40 GPUs are no multiple of the 16 of one pipeline rank"),
        ((32, 32, "", ", placement: [tp, cp, pp, dp]"), "pp must be the outermost"),
        ((32, 32, "", "", "fp8"), "a100-80gb-sxm does not compute in fp8"),
    ],
)
def test_pools_that_do_not_work_out_are_explained(
    tmp_path: Path, arguments: tuple[object, ...], expected: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(tmp_path, *arguments)  # type: ignore[arg-type]
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        ({"gpu": "h100-80gb-sxm", "pools": [{"gpu": "a100-80gb-sxm", "gpus": 8}]}, "each pool has its own"),
        ({"gpus": 9, "pools": [{"gpu": "a100-80gb-sxm", "gpus": 8}]}, "but the pools hold 8"),
        ({"pools": [{"gpu": "a100-80gb-sxm"}]}, "the key 'gpus' is missing"),
        ({"gpu": "tpu-v5e", "gpus": 512, "num_slices": 3}, "do not divide into 3 slices"),
        ({"gpu": "tpu-v5e", "gpus": 1024, "num_slices": 2}, "exceeds the pod of 16 x 16 = 256; use 4 slices"),
        ({"gpu": "h100-80gb-sxm", "gpus": 512, "num_slices": 2}, "slices are parts of a torus"),
    ],
)
def test_hardware_that_cannot_be_is_explained(cluster: dict[str, object], expected: str) -> None:
    content = {
        "cluster": cluster,
        "model": "llama3-8b",
        "training": {"seq_length": 4096, "global_batch_size": 512},
    }
    with pytest.raises(ScenarioError) as caught:
        files.from_document(content)
    assert expected in str(caught.value)


def test_balanced_layers_follow_a_v_shaped_schedule(tmp_path: Path) -> None:
    scenario = load(tmp_path, 32, 32, layout=", schedule: zb-v, vpp: 2")
    layers = scenario.parallelism.stage_layers
    assert min(layers[0], layers[1], layers[6], layers[7]) > max(layers[2:6])
