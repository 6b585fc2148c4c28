"""Laws of data parallelism: what each kind of sharding holds, moves and waits for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from factories import GPU, NETWORK, SOFTWARE, make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.api import estimate_memory, simulate
from simulator.workload.parameters.counts import LocalParameters, stage_parameters
from simulator.workload.program import OpKind, Stream
from simulator.workload.step.build import build_step
from simulator.workload.work import Collective

if TYPE_CHECKING:
    from simulator.scenario import Scenario

FAST = settings(max_examples=20, deadline=None)
WIRE = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0}
"""Bytes that a rank sends per byte of buffer, over (n - 1) / n (nccl-tests)."""


def scenario_of(sharding: str, **size: Any) -> Scenario:  # noqa: ANN401
    """Return a scenario whose weights and gradients both take two bytes."""
    return make_scenario(sharding=sharding, seq_length=2048, grad_dtype="bf16", **size)


def moved(scenario: Scenario) -> dict[tuple[str, int], float]:
    """Return the data-parallel bytes of all pipeline ranks by kind of collective and size of its group."""
    program = build_step(scenario).program
    total: dict[tuple[str, int], float] = {}
    for op in np.flatnonzero(program.kind == OpKind.COLLECTIVE).tolist():
        work = program.works[program.work[op]]
        if isinstance(work, Collective) and work.group.axis == "dp" and work.name != "gradient norm":
            key = (work.kind, work.group.size)
            total[key] = total.get(key, 0.0) + work.bytes
    return total


def volume(scenario: Scenario) -> float:
    """Return what a rank sends in units of a gathered or scattered buffer."""
    return sum(WIRE[kind] * size for (kind, _), size in moved(scenario).items())


def parameters(scenario: Scenario) -> float:
    """Count the parameters of all pipeline ranks."""
    local = LocalParameters.of(scenario.model, scenario.parallelism)
    return sum(stage_parameters(local, stage.outline).total for stage in build_step(scenario).stages)


@FAST
@given(
    tp=st.sampled_from([1, 2]),
    cp=st.sampled_from([1, 2]),
    dp=st.sampled_from([2, 8, 64]),
    microbatches=st.integers(1, 3),
    prefetch=st.integers(0, 3),
)
def test_each_stage_of_sharding_holds_less(
    tp: int, cp: int, dp: int, microbatches: int, prefetch: int
) -> None:
    """Rajbhandari et al., arXiv:1910.02054, figure 1; gradients in 2 bytes, 12 bytes of optimizer state."""
    size = {"tp": tp, "cp": cp, "dp": dp, "microbatches": microbatches, "reduce_every_microbatch": True}
    memory = {
        sharding: estimate_memory(scenario_of(sharding, prefetch=prefetch, **size)).worst
        for sharding in ("none", "zero1", "zero2", "zero3")
    }
    count, sharers = parameters(scenario_of("none", **size)), cp * dp
    weights = {sharding: held.weights / count for sharding, held in memory.items()}
    gradients = {sharding: held.gradients / count for sharding, held in memory.items()}
    optimizer = {sharding: held.optimizer / count for sharding, held in memory.items()}
    assert list(weights.values())[:3] == [2.0, 2.0, 2.0]
    assert weights["zero3"] < 2.0
    assert list(gradients.values()) == pytest.approx([2, 2, 2 / sharers, 2 / sharers])
    assert list(optimizer.values()) == pytest.approx([12, 12 / sharers, 12 / sharers, 12 / sharers])


@FAST
@given(dp=st.sampled_from([4, 16, 64]), pp=st.sampled_from([1, 2]), microbatches=st.integers(1, 4))
def test_volumes_are_the_closed_forms(dp: int, pp: int, microbatches: int) -> None:
    """ZeRO-1 and 2 move as much as an all-reduce, ZeRO-3 half as much again (arXiv:1910.02054, section 7).

    The embedding and the head belong to FSDP's outermost unit, which is gathered only once per micro-batch.
    """
    size = {"dp": dp, "pp": pp, "microbatches": microbatches}
    plain = scenario_of("none", **size)
    count = parameters(plain)
    assert volume(plain) == pytest.approx(2 * 2 * count)
    for sharding in ("zero1", "zero2"):
        assert volume(scenario_of(sharding, **size)) == pytest.approx(volume(plain))
    whole = replace(scenario_of("zero1", **size), software=replace(SOFTWARE, sums_whole_gradients=True))
    assert volume(whole) == pytest.approx(1.5 * volume(plain))
    owned = replace(scenario_of("zero1", **size), software=replace(SOFTWARE, broadcasts_weights=True))
    assert sum(moved(owned).values()) == pytest.approx(2 * 2 * count)
    assert {kind for kind, _ in moved(owned)} == {"reduce_scatter", "broadcast"}
    every = scenario_of("zero3", reduce_every_microbatch=True, **size)
    layers = 8 * LocalParameters.of(plain.model, plain.parallelism).layers[False, "layer"].total
    expected = microbatches * 2 * (3 * layers + 2 * (count - layers))
    assert volume(every) == pytest.approx(expected)
    assert expected / microbatches < 1.5 * volume(plain)
    kept = scenario_of("zero3", reshard_after_forward=False, **size)
    assert volume(kept) == pytest.approx(volume(plain))
    freed = scenario_of("zero3", reshard_after_forward=False, reduce_every_microbatch=True, **size)
    times = 1 if pp > 1 else microbatches  # a pipeline keeps its weights over the step all the same
    assert moved(freed)["all_gather", dp] == pytest.approx(times * 2 * count)


@FAST
@given(
    sharding=st.sampled_from(["none", "zero1", "zero2"]),
    microbatches=st.integers(1, 5),
    shard=st.sampled_from([None, 4]),
)
def test_reducing_every_microbatch_moves_gradients_that_many_times(
    sharding: str, microbatches: int, shard: int | None
) -> None:
    once, every = (
        moved(
            scenario_of(
                sharding, dp=16, microbatches=microbatches, reduce_every_microbatch=each, shard_size=shard
            )
        )
        for each in (False, True)
    )
    assert once.keys() == every.keys()
    for (kind, group), size in once.items():
        times = 1 if kind == "all_gather" else microbatches
        assert every[kind, group] == pytest.approx(times * size)


@FAST
@given(sharding=st.sampled_from(["zero1", "zero2", "zero3"]), shard=st.sampled_from([1, 2, 4, 8, 16]))
def test_hybrid_sharding_sums_shards_over_replicas(sharding: str, shard: int) -> None:
    """Reduce-scatter in the shard group, then all-reduce a shard (arXiv:2304.11277, section 3.2.2)."""
    scenario = scenario_of(sharding, dp=16, microbatches=1, shard_size=shard, reduce_every_microbatch=True)
    size, found = 2 * parameters(scenario), moved(scenario)
    assert found.get(("reduce_scatter", shard), 0.0) == pytest.approx(size if shard > 1 else 0.0)
    assert found.get(("all_reduce", 16 // shard), 0.0) == pytest.approx(size / shard if shard < 16 else 0.0)


@FAST
@given(
    dp=st.sampled_from([8, 32]),
    pp=st.sampled_from([1, 2]),
    microbatches=st.integers(2, 4),
    every=st.booleans(),
    shard=st.sampled_from([None, 8]),
)
def test_without_the_cost_of_communication_all_modes_take_the_same_time(
    dp: int,
    pp: int,
    microbatches: int,
    every: bool,
    shard: int | None,
) -> None:
    free = replace(GPU, scale_up_bytes_per_s=1e21, scale_up_latency_s=0.0)
    network = replace(NETWORK, bytes_per_s_per_gpu=1e21, tiers=())
    software = replace(SOFTWARE, optimizer_bytes_per_parameter=0.0)
    times = [
        simulate(
            scenario_of(
                sharding,
                dp=dp,
                pp=pp,
                microbatches=microbatches,
                reduce_every_microbatch=every,
                shard_size=shard,
                gpu=free,
                network=network,
                software=software,
            )
        ).metrics["step_time_s"]
        for sharding in ("none", "zero1", "zero2", "zero3")
    ]
    assert max(times) <= min(times) * 1.05  # start-up latencies of the collectives remain


@FAST
@given(
    dp=st.sampled_from([8, 64]),
    microbatches=st.integers(1, 3),
    prefetch=st.integers(0, 4),
    bandwidth=st.floats(1e9, 2e11),
    reshards=st.booleans(),
)
def test_prefetching_further_ahead_is_never_slower(
    dp: int,
    microbatches: int,
    prefetch: int,
    bandwidth: float,
    reshards: bool,
) -> None:
    network = replace(NETWORK, bytes_per_s_per_gpu=bandwidth)
    gpu = replace(GPU, scale_up_bytes_per_s=bandwidth)
    near, far = (
        simulate(
            scenario_of(
                "zero3",
                dp=dp,
                microbatches=microbatches,
                prefetch=depth,
                reshard_after_forward=reshards,
                reduce_every_microbatch=True,
                gpu=gpu,
                network=network,
            )
        ).metrics["step_time_s"]
        for depth in (prefetch, prefetch + 1)
    )
    assert far <= near * (1 + 1e-9)


@FAST
@given(prefetch=st.integers(0, 4), bandwidth=st.floats(1e9, 2e11), microbatches=st.integers(1, 3))
def test_no_more_units_are_gathered_than_prefetch_allows(
    prefetch: int, bandwidth: float, microbatches: int
) -> None:
    scenario = scenario_of(
        "zero3",
        dp=16,
        microbatches=microbatches,
        prefetch=prefetch,
        reduce_every_microbatch=True,
        network=replace(NETWORK, bytes_per_s_per_gpu=bandwidth),
    )
    timeline = simulate(scenario).timeline
    program = timeline.program
    names = [getattr(program.works[work], "name", "") for work in program.work]
    gathers = [op for op, name in enumerate(names) if name == "param_gather"]
    passes = (OpKind.FORWARD, OpKind.BACKWARD)
    on_compute = np.isin(program.kind, passes) & (program.stream == Stream.COMPUTE)
    computes: list[int] = np.flatnonzero(on_compute).tolist()
    waiting = {op: set(program.dependencies(op).tolist()) for op in computes}
    users = [next(op for op, before in waiting.items() if gather in before) for gather in gathers]
    for gather, user in zip(gathers, users, strict=True):
        ahead = [op for op in computes if op <= user and timeline.end_s[op] > timeline.start_s[gather]]
        assert len(ahead) <= prefetch + 1
        assert timeline.end_s[gather] <= timeline.start_s[user]


def test_copies_of_gathered_weights_take_time() -> None:
    plain, copying = (
        simulate(
            scenario_of(
                "zero3",
                dp=8,
                reduce_every_microbatch=True,
                software=replace(SOFTWARE, unshard_copies=copies),
            )
        )
        for copies in (False, True)
    )
    assert copying.breakdown.compute > plain.breakdown.compute
    assert copying.metrics["step_time_s"] > plain.metrics["step_time_s"]


def test_waiting_for_every_collective_is_slower_than_overlap() -> None:
    scenario = scenario_of("zero3", dp=64, reduce_every_microbatch=True)
    never = replace(scenario.training.overlap, grad_reduce=False, param_gather=False)
    blocking = simulate(replace(scenario, training=replace(scenario.training, overlap=never)))
    exposed = simulate(scenario).breakdown.exposed_dp
    assert exposed < 0.5 * blocking.breakdown.exposed_dp


@FAST
@given(
    dp=st.sampled_from([4, 64]), microbatches=st.integers(2, 4), sharding=st.sampled_from(["zero2", "zero3"])
)
def test_gradients_summed_up_before_they_are_sharded_are_whole_on_each_rank(
    dp: int, microbatches: int, sharding: str
) -> None:
    """One stage per rank: whole gradients are added to activations from the first backward pass on."""
    size = {"dp": dp, "microbatches": microbatches}
    held = estimate_memory(scenario_of(sharding, **size)).worst.gradients
    whole = 2 * parameters(scenario_of("none", **size))
    assert held == pytest.approx(whole * (1 + 1 / dp))
    every = estimate_memory(scenario_of(sharding, reduce_every_microbatch=True, **size)).worst.gradients
    assert every == pytest.approx(whole / dp)


def test_a_stage_that_runs_its_microbatches_in_a_row_holds_its_gradients_for_less_long() -> None:
    interleaved = scenario_of("zero2", dp=16, pp=4, vpp=2, microbatches=4)
    held = estimate_memory(interleaved).worst.gradients
    whole = estimate_memory(scenario_of("zero1", dp=16, pp=4, vpp=2, microbatches=4)).worst.gradients
    assert held < whole
