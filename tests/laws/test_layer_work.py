"""Which scenarios share the works of their layers: those that agree in all that a layer reads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from laws.layers import stages_of
from tests.factories import make_scenario

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.layers.layer_work import LayerWork


def works(scenario: Scenario) -> tuple[LayerWork, LayerWork, LayerWork]:
    """Return the embedding, the first layer and the head."""
    stages = stages_of(scenario)
    return stages[0].works[0], stages[0].works[1], stages[-1].works[-1]


@settings(max_examples=20, deadline=None)
@given(
    dp=st.sampled_from((1, 2, 4)),
    microbatches=st.sampled_from((2, 4, 8)),
    sharding=st.sampled_from(("none", "zero1", "zero2")),
    pp=st.sampled_from((1, 2, 4)),
)
def test_layouts_that_differ_around_their_layers_share_the_works(
    dp: int, microbatches: int, sharding: str, pp: int
) -> None:
    one = make_scenario(tp=2)
    other = make_scenario(tp=2, pp=pp, dp=dp, microbatches=microbatches, sharding=sharding)
    assert all(left is right for left, right in zip(works(one), works(other), strict=True))


def test_equal_scenarios_made_apart_share_the_works() -> None:
    one, other = make_scenario(cp=2), make_scenario(cp=2)
    other = replace(other, model=replace(other.model), software=replace(other.software))
    assert all(left is right for left, right in zip(works(one), works(other), strict=True))


def test_layers_of_other_sizes_or_kernels_are_works_of_their_own() -> None:
    plain = make_scenario()
    unfused = replace(plain, software=replace(plain.software, fused=frozenset()))
    layers = [works(scenario)[1] for scenario in (plain, make_scenario(tp=2), unfused)]
    assert len(set(map(id, layers))) == len(layers)


def test_recomputation_leaves_the_forward_pass_as_it_is() -> None:
    plain, again = (works(make_scenario(recompute=how))[1] for how in ("none", "full"))
    assert again is not plain
    assert again.forward.program is plain.forward.program
    assert again.backward.program.num_ops > plain.backward.program.num_ops


def test_a_prediction_module_is_treated_as_the_only_layer_of_its_stage() -> None:
    model = replace(make_scenario().model, num_nextn_predict_layers=1)
    plain = make_scenario(model=model)
    offload = replace(plain.training.offload, modules=("all",), num_layers=1)
    moved = replace(plain, training=replace(plain.training, offload=offload))
    before, after = (stages_of(scenario)[0].works for scenario in (plain, moved))
    kept = [work.offloaded_bytes for work in after]
    assert kept[1] == before[1].saved_bytes > 0  # the first layer of the stage
    assert kept[2] == 0
    assert kept[-3] == before[-3].saved_bytes > 0  # the module, before its head and the head
