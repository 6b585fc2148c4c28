"""Laws of passes that run beside data-parallel collectives."""

from __future__ import annotations

from dataclasses import replace

from factories import GPU, SOFTWARE, make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.api import simulate

FAST = settings(max_examples=15, deadline=None)


@FAST
@given(
    held=st.integers(1, 64), sharding=st.sampled_from(["none", "zero1", "zero3"]), pp=st.sampled_from([1, 2])
)
def test_multiprocessors_of_collectives_cost_at_most_their_share_of_the_overlap(
    held: int, sharding: str, pp: int
) -> None:
    size = {"dp": 32, "pp": pp, "seq_length": 2048}
    taking = replace(SOFTWARE, collective_multiprocessors=held)
    free, taken = (
        simulate(make_scenario(sharding=sharding, software=software, **size))  # type: ignore[arg-type]
        for software in (SOFTWARE, taking)
    )
    share = held / GPU.multiprocessors
    extra = taken.breakdown.compute - free.breakdown.compute
    assert 0 < extra <= share * free.metrics["step_time_s"]
    assert free.metrics["step_time_s"] <= taken.metrics["step_time_s"]


def test_nothing_is_lost_where_nothing_overlaps() -> None:
    scenario = make_scenario(dp=32, microbatches=1)
    apart = replace(scenario.training.overlap, grad_reduce=False, param_gather=False)
    taking = replace(SOFTWARE, collective_multiprocessors=32)
    free, taken = (
        simulate(make_scenario(dp=32, microbatches=1, overlap=apart, software=software))
        for software in (SOFTWARE, taking)
    )
    assert taken.metrics["step_time_s"] == free.metrics["step_time_s"]
