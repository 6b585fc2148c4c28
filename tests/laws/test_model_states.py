"""What model states take, from the sizes of the model by hand; bounds of a search use the same functions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from factories import MODEL, SOFTWARE, make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.api import estimate_memory
from simulator.scenario import Experts, Offload
from simulator.scenario.parameters import ModelParameters
from simulator.workload.grid import Mesh
from simulator.workload.step.build import build_step
from simulator.workload.step.messages import message_bytes
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.scenario.parallelism import Axis

FAST = settings(max_examples=20, deadline=None)
SPARSE = replace(MODEL, experts=Experts(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=1024))
COUNT = ModelParameters.of(MODEL).total
LAYER = ModelParameters.of(MODEL).counts[False, "layer"].total


def training_of(scenario: Scenario, **fields: object) -> Scenario:
    """Return the scenario with other settings of its training section."""
    return replace(scenario, training=replace(scenario.training, **fields))  # type: ignore[arg-type]


@given(
    st.permutations(["tp", "cp dp", "pp"]),
    st.booleans(),
    st.tuples(*[st.sampled_from([1, 2, 4])] * 4),
)
def test_replicas_are_the_ranks_that_differ_in_data_and_context_only(
    order: list[str], swaps: bool, degrees: tuple[int, ...]
) -> None:
    inner = {"cp dp": ("dp", "cp") if swaps else ("cp", "dp")}
    placement: tuple[Axis, ...] = tuple(
        axis
        for name in order
        for axis in inner.get(name, (name,))  # type: ignore[misc]
    )
    mesh = Mesh(placement=placement, **dict(zip(("tp", "cp", "dp", "pp"), degrees, strict=True)))
    group = mesh.replicas()
    expected = {mesh.stride("cp") * i + mesh.stride("dp") * j for i in range(mesh.cp) for j in range(mesh.dp)}
    assert {group.stride * step for step in range(group.size)} == expected


def test_a_message_is_a_part_of_the_activation_unless_the_stack_sends_all_of_it() -> None:
    sizes = [
        message_bytes(1024, 4, 8192.0, whole_messages=whole, sequence_parallel=divides)
        for whole in (False, True)
        for divides in (False, True)
    ]
    assert sizes == [1024 * 8192 / 4, 1024 * 8192 / 4, 1024 * 8192, 1024 * 8192 / 4]


@FAST
@given(
    dp=st.sampled_from([1, 2, 8]),
    passes=st.sampled_from([0.0, 34.0]),
    sharding=st.sampled_from(["none", "zero1"]),
)
def test_an_update_passes_over_its_shard_and_a_reduction_over_all_gradients(
    dp: int, passes: float, sharding: str
) -> None:
    software = replace(SOFTWARE, reduction_bytes_per_parameter=passes)
    program = build_step(make_scenario(dp=dp, sharding=sharding, software=software)).program
    works = [work for work in program.works if isinstance(work, Elementwise) and work.name == "optimizer"]
    shard = COUNT / (dp if sharding == "zero1" else 1)
    assert [work.bytes_moved for work in works] == pytest.approx(
        [30 * shard + (passes * COUNT if dp > 1 else 0)]
    )


@FAST
@given(ep=st.sampled_from([1, 2, 4]), dp=st.sampled_from([4, 8]))
def test_optimizer_state_of_experts_is_divided_among_fewer_ranks(ep: int, dp: int) -> None:
    held = estimate_memory(make_scenario(model=SPARSE, ep=ep, dp=dp, sharding="zero1")).worst
    parts = ModelParameters.of(SPARSE)
    experts = sum(parts.counts[key].experts for key in parts.layers)
    # Each rank holds 1 / ep of the experts, and shares them with dp / ep ranks.
    assert held.optimizer == pytest.approx(12 * ((parts.total - experts) / dp + experts / ep / (dp / ep)))


@FAST
@given(precision=st.sampled_from(["bf16", "fp32"]), dp=st.sampled_from([2, 16]), reshards=st.booleans())
def test_fp32_weights_stay_as_shards_and_narrower_ones_are_cast_from_the_master(
    precision: str, dp: int, reshards: bool
) -> None:
    scenario = make_scenario(dp=dp, sharding="zero3", reshard_after_forward=reshards, prefetch=1)
    held = estimate_memory(training_of(scenario, precision=precision)).worst
    size = 4 if precision == "fp32" else 2
    whole = COUNT - 6 * LAYER if reshards else COUNT  # the layer that runs and the next one of eight
    kept = COUNT / dp if precision == "fp32" and reshards else 0.0
    assert held.weights == pytest.approx(size * (whole + kept))
    largest = max(LAYER, MODEL.vocab_size * MODEL.hidden_size)
    assert held.communication_buffers == pytest.approx((size + 4) * largest, rel=1e-4)


@FAST
@given(fraction=st.sampled_from([0.25, 1.0]), bucket=st.sampled_from([1e8, 1e9, 1e12]))
def test_two_buckets_of_offloaded_state_are_on_the_gpu_at_a_time(fraction: float, bucket: float) -> None:
    scenario = make_scenario(software=replace(SOFTWARE, bucket_bytes=bucket))
    offload = Offload(optimizer="stream", optimizer_fraction=fraction)
    held = estimate_memory(training_of(scenario, offload=offload)).worst.optimizer
    away = 12 * COUNT * fraction
    buckets = min(64, np.ceil(4 * COUNT * fraction / bucket))
    assert held == pytest.approx(12 * COUNT - away + min(away, 2 * away / buckets))
