"""Laws that the event engine obeys on every program."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engines import ENGINES
from simulator.engines.durations import Durations
from simulator.engines.links import fair_rates
from simulator.errors import DeadlockError, SimulationError

from .programs import (
    Op,
    build,
    durations,
    flows,
    fluid,
    longest_path,
    op_lists,
    precedence,
    seconds,
    water_filling,
)

if TYPE_CHECKING:
    from simulator.engines.timeline import Timeline
    from simulator.workload.program import Program

run = ENGINES["event"]
few = settings(max_examples=60, deadline=None)
PRIVATE = [4.0, 0.5, 7.0]


def private_flows(program: Program, fixed_s: np.ndarray, capacity: list[float]) -> Durations:
    """Let every op move a byte over links that only its own stream crosses: no contention."""
    queue = (program.rank * 2 + program.stream).tolist()
    routes = [[q * 3, q * 3 + 1, q * 3 + 2][: op % 4] for op, q in enumerate(queue)]
    return durations(
        fixed_s.tolist(), [float(len(r) > 0) for r in routes], routes, capacity * (max(queue) + 1)
    )


def check_rules(timeline: Timeline) -> None:
    program, start, end = timeline.program, timeline.start_s, timeline.end_s
    assert (start >= 0).all()
    assert (end >= start).all()
    for op, before in enumerate(precedence(program)):
        assert all(start[op] >= end[other] for other in before)
    for join in set(program.join.tolist()) - {-1}:
        assert len(set(start[program.join == join])) == len(set(end[program.join == join])) == 1
    for rank in range(program.num_ranks):
        for stream in set(program.stream.tolist()):
            ops = timeline.ops_of(rank, stream)
            assert (end - start)[ops].sum() <= timeline.makespan_s * (1 + 1e-12)


@few
@given(st.data())
def test_without_contention_every_op_ends_at_its_longest_path(data: st.DataObject) -> None:
    ops = data.draw(op_lists())
    program = build(ops)
    given_durations = data.draw(
        st.one_of(
            seconds(len(ops)).map(Durations.of),
            seconds(len(ops)).map(lambda fixed: private_flows(program, fixed, PRIVATE)),
        )
    )
    timeline = run(program, given_durations)
    expected = longest_path(program, given_durations.alone_s())
    assert expected is not None
    np.testing.assert_allclose(timeline.start_s, expected[0], rtol=1e-12, atol=0)
    np.testing.assert_allclose(timeline.end_s, expected[1], rtol=1e-12, atol=0)
    check_rules(timeline)


@few
@given(st.data())
def test_with_contention_every_op_agrees_with_a_fluid_reference(data: st.DataObject) -> None:
    ops = data.draw(op_lists(max_steps=9))
    program, given_durations = build(ops), data.draw(flows(len(ops)))
    timeline = run(program, given_durations)
    start, end = fluid(program, given_durations)
    np.testing.assert_allclose(timeline.start_s, start, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(timeline.end_s, end, rtol=1e-9, atol=1e-9)
    check_rules(timeline)
    alone = longest_path(program, given_durations.alone_s())
    assert alone is not None
    assert timeline.makespan_s >= alone[1].max() * (1 - 1e-12)


@few
@given(st.data())
def test_numbers_of_ops_are_only_names(data: st.DataObject) -> None:
    ops = data.draw(op_lists())
    by_queue = sorted(range(len(ops)), key=lambda place: (-ops[place].rank, ops[place].stream, place))
    program, given_durations = build(ops), data.draw(flows(len(ops)))
    links = [given_durations.links(op).tolist() for op in by_queue]
    renumbered = durations(
        given_durations.fixed_s[by_queue].tolist(),
        given_durations.flow_bytes[by_queue].tolist(),
        links,
        given_durations.link_bytes_per_s.tolist(),
    )
    one, other = run(program, given_durations), run(build(ops, by_queue), renumbered)
    np.testing.assert_allclose(other.end_s, one.end_s[by_queue], rtol=1e-9, atol=1e-9)


@few
@given(st.data())
def test_twice_the_durations_take_exactly_twice_the_time(data: st.DataObject) -> None:
    ops = data.draw(op_lists())
    program, given_durations = build(ops), data.draw(flows(len(ops)))
    once, twice = run(program, given_durations), run(program, given_durations.scaled(2.0))
    assert np.array_equal(twice.start_s, 2 * once.start_s)
    assert np.array_equal(twice.end_s, 2 * once.end_s)


@few
@given(st.data())
def test_a_shorter_op_or_a_faster_link_makes_nothing_later_without_contention(data: st.DataObject) -> None:
    ops = data.draw(op_lists())
    program, fixed = build(ops), data.draw(seconds(len(ops)))
    shorter = fixed * np.array(data.draw(st.lists(st.floats(0, 1), min_size=len(ops), max_size=len(ops))))
    faster = [one * data.draw(st.floats(1, 10)) for one in PRIVATE]
    before = run(program, private_flows(program, fixed, PRIVATE)).end_s
    assert (run(program, private_flows(program, shorter, PRIVATE)).end_s <= before).all()
    assert (run(program, private_flows(program, fixed, faster)).end_s <= before).all()


@few
@given(st.data())
def test_same_input_gives_same_bytes(data: st.DataObject) -> None:
    ops = data.draw(op_lists())
    given_durations = data.draw(flows(len(ops)))
    one, other = (run(build(ops), given_durations) for _ in range(2))
    assert one.start_s.tobytes() == other.start_s.tobytes()
    assert one.end_s.tobytes() == other.end_s.tobytes()


@few
@given(st.data())
def test_no_link_ever_carries_more_than_its_capacity(data: st.DataObject) -> None:
    ops = [Op(rank=rank, stream=0) for rank in range(data.draw(st.integers(1, 8)))]
    given_durations = data.draw(flows(len(ops)))
    timeline = run(build(ops), given_durations)
    start, end = timeline.start_s + given_durations.fixed_s, timeline.end_s
    for link, capacity in enumerate(given_durations.link_bytes_per_s):
        crossing = np.array([link in given_durations.links(op) for op in range(len(ops))])
        for first in start[crossing]:
            for last in end[crossing]:
                inside = crossing & (start >= first) & (end <= last)
                moved = given_durations.flow_bytes[inside].sum()
                assert moved <= capacity * max(0.0, last - first) * (1 + 1e-9) + 1e-9


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_rates_are_max_min_fair(data: st.DataObject) -> None:
    capacity = data.draw(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6))
    route = st.lists(st.integers(0, len(capacity) - 1), min_size=1, max_size=4, unique=True)
    routes = data.draw(st.lists(route, min_size=1, max_size=10))
    rates = fair_rates(routes, capacity)
    np.testing.assert_allclose(rates, water_filling(routes, capacity), rtol=1e-9)
    carried = [
        sum(r for r, links in zip(rates, routes, strict=True) if k in links) for k in range(len(capacity))
    ]
    assert all(used <= most * (1 + 1e-9) for used, most in zip(carried, capacity, strict=True))
    for rate, links in zip(rates, routes, strict=True):  # each flow is among the fastest of a full link
        assert any(
            carried[link] >= capacity[link] * (1 - 1e-9)
            and all(r <= rate * (1 + 1e-9) for r, other in zip(rates, routes, strict=True) if link in other)
            for link in links
        )


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_equal_flows_over_one_link_each_take_that_many_times_as_long(count: int) -> None:
    program = build([Op(rank=rank, stream=0) for rank in range(count)])
    timeline = run(program, durations([0.5] * count, [3e9] * count, [[0]] * count, [7e9]))
    np.testing.assert_allclose(timeline.end_s, 0.5 + count * 3 / 7, rtol=1e-12)


def test_a_flow_that_meets_no_other_is_exactly_as_fast_as_alone() -> None:
    program = build([Op(0, 0), Op(1, 0, after=(0,)), Op(2, 0)])
    given_durations = durations([0.25, 0.1, 0.0], [1e9, 3e8, 5e8], [[0, 1], [1], [2]], [3e9, 7e9, 1e9])
    timeline = run(program, given_durations)
    assert timeline.end_s.tolist() == pytest.approx([0.25 + 1 / 3, 0.35 + 1 / 3 + 0.3 / 7, 0.5], rel=1e-14)


def test_rates_change_when_a_flow_comes_and_goes() -> None:
    # 10 bytes alone at 2 bytes/s until 1 s, shared until the other has moved its 3 bytes at 4 s, then alone.
    program = build([Op(0, 0), Op(1, 0)])
    timeline = run(program, durations([0.0, 1.0], [10.0, 3.0], [[0], [0]], [2.0]))
    assert timeline.end_s.tolist() == pytest.approx([1 + 3 + (10 - 2 - 3) / 2, 4.0], rel=1e-14)


def test_no_ops_take_no_time() -> None:
    assert run(build([]), Durations.of(np.zeros(0))).makespan_s == 0.0


def test_residues_of_wildly_different_flows_do_not_stall_the_clock() -> None:
    sizes = [1e-9, 1e15, 1.0, 1e9 / 3, 1e9 / 7] * 8
    program = build([Op(rank=rank, stream=0) for rank in range(len(sizes))])
    routes = [[rank % 3, 3 + rank % 2] for rank in range(len(sizes))]
    timeline = run(program, durations([0.0] * len(sizes), sizes, routes, [1e9 / 3, 1e10, 7e11, 4e10, 1e-1]))
    assert np.isfinite(timeline.end_s).all()


@pytest.mark.parametrize(
    ("fixed", "size", "capacity", "message"),
    [
        (-1.0, 1.0, 1.0, "op 0 .* seconds"),
        (float("nan"), 1.0, 1.0, "op 0 .* seconds"),
        (1.0, float("inf"), 1.0, "op 0 .* bytes"),
        (1.0, 1.0, 0.0, "link 0 .* capacity"),
    ],
)
def test_impossible_numbers_are_refused(fixed: float, size: float, capacity: float, message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        run(build([Op(0, 0)]), durations([fixed], [size], [[0]], [capacity]))


def test_crossing_orders_are_reported_with_both_ranks_and_the_cycle() -> None:
    # Rank 0 wants join 0 before join 1, rank 1 the other way round; rank 2 waits for rank 0.
    ops = [
        Op(0, 0),
        Op(0, 0, join=0),
        Op(0, 0, join=1),
        Op(1, 0, join=1),
        Op(1, 0, join=0),
        Op(2, 0, after=(2,)),
    ]
    with pytest.raises(DeadlockError) as error:
        run(build(ops), Durations.of(np.full(6, 0.5)))
    first, *waiting, cycle = str(error.value).splitlines()
    assert first == "deadlock: 5 of 6 ops can never start"
    assert [line.split(" waits since ")[0].strip() for line in waiting] == [
        "kernel (op 1, rank 0, compute)",
        "kernel (op 3, rank 1, compute)",
        "kernel (op 5, rank 2, compute)",
    ]
    assert "waits since 0.5 s for its partner kernel (op 4, rank 1, compute)" in waiting[0]
    assert numbers(cycle) == [1, 4, 3, 2, 1]


def numbers(cycle: str) -> list[int]:
    assert cycle.startswith("cycle: ")
    return [int(number) for number in re.findall(r"op (\d+)", cycle)]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_one_edge_backwards_never_hangs(data: st.DataObject) -> None:
    ops = data.draw(op_lists())
    early, late = sorted(data.draw(st.lists(st.integers(0, len(ops) - 1), min_size=2, max_size=2)))
    ops[early] = Op(ops[early].rank, ops[early].stream, ops[early].join, (*ops[early].after, late))
    program = build(ops)
    ones = np.ones(len(ops))
    expected = longest_path(program, ones)
    if expected is not None:
        assert np.array_equal(run(program, Durations.of(ones)).end_s, expected[1])
        return
    with pytest.raises(DeadlockError) as error:
        run(program, Durations.of(ones))
    cycle = numbers(str(error.value).splitlines()[-1])
    assert cycle[0] == cycle[-1]
    assert len(cycle) > 1
    for op, other in pairwise(cycle):
        assert other in precedence(program)[op] or program.join[op] == program.join[other] >= 0
