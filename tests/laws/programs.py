"""Random programs, and two slow engines that follow the definitions literally."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from simulator.engines.durations import Durations
from simulator.workload.program import OpKind, Program, ProgramBuilder, Stream
from simulator.workload.work import Elementwise

WORK = Elementwise(name="kernel", bytes_moved=1.0)


@dataclass(frozen=True)
class Op:
    """An op of a program to be: numbers are places in the list that holds it."""

    rank: int
    stream: int
    join: int = -1
    after: tuple[int, ...] = ()


def build(ops: list[Op], order: list[int] | None = None) -> Program:
    """Build a program; ``order`` says which op gets number 0, 1 and so on."""
    order = list(range(len(ops))) if order is None else order
    number = {place: new for new, place in enumerate(order)}
    ranks = 1 + max((op.rank for op in ops), default=0)
    builder = ProgramBuilder(rank_names=tuple(f"rank {rank}" for rank in range(ranks)))
    for place in order:
        op = ops[place]
        after = [number[other] for other in op.after]
        builder.add(OpKind.KERNEL, op.rank, Stream(op.stream), WORK, after=after, join=op.join)
    return builder.build()


@st.composite
def op_lists(draw: st.DrawFn, max_steps: int = 14) -> list[Op]:
    """Draw ops that can all run: each step, one op or one join, waits only for earlier steps."""
    queues = [(rank, stream) for rank in range(draw(st.integers(1, 4))) for stream in range(2)]
    ops: list[Op] = []
    for join in range(draw(st.integers(1, max_steps))):
        members = draw(st.lists(st.sampled_from(queues), min_size=1, max_size=3, unique=True))
        earlier = st.lists(st.integers(0, len(ops) - 1), max_size=3) if ops else st.just([])
        ops += [
            Op(rank, stream, join if len(members) > 1 else -1, tuple(draw(earlier)))
            for rank, stream in members
        ]
    return ops


def seconds(count: int) -> st.SearchStrategy[np.ndarray]:
    """Draw durations, many of them zero or equal."""
    one = st.one_of(st.sampled_from([0.0, 1.0, 1e-6]), st.floats(1e-9, 1e3))
    return st.lists(one, min_size=count, max_size=count).map(np.array)


@st.composite
def flows(draw: st.DrawFn, count: int) -> Durations:
    """Draw durations with flows over up to four links."""
    capacity = draw(st.lists(st.sampled_from([1.0, 2.0, 3.0, 7.5]), min_size=1, max_size=4))
    link = st.lists(st.integers(0, len(capacity) - 1), max_size=3, unique=True)
    routes = draw(st.lists(link, min_size=count, max_size=count))
    size = st.one_of(st.sampled_from([0.0, 6.0]), st.floats(1e-3, 50.0))
    fixed = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 10.0))
    return durations(
        draw(st.lists(fixed, min_size=count, max_size=count)),
        [draw(size) if route else 0.0 for route in routes],
        routes,
        capacity,
    )


def durations(
    fixed_s: list[float], flow_bytes: list[float], routes: list[list[int]], capacity: list[float]
) -> Durations:
    """Build durations from one route per op."""
    return Durations(
        fixed_s=np.array(fixed_s, dtype=np.float64),
        flow_bytes=np.array(flow_bytes, dtype=np.float64),
        route_start=np.cumsum([0, *map(len, routes)]),
        route=np.array([link for route in routes for link in route], dtype=np.int64),
        link_bytes_per_s=np.array(capacity, dtype=np.float64),
    )


def precedence(program: Program) -> list[set[int]]:
    """Return, for each op, all ops that end before it may start."""
    before: list[set[int]] = []
    for op in range(program.num_ops):
        group = [op]
        if program.join[op] >= 0:
            group = np.flatnonzero(program.join == program.join[op]).tolist()
        before.append(set())
        for member in group:
            before[op] |= set(program.dependencies(member).tolist())
            before[op] |= {
                other
                for other in range(member)
                if (program.rank[other], program.stream[other])
                == (program.rank[member], program.stream[member])
            }
    return before


def longest_path(program: Program, alone_s: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return starts and ends without contention, by relaxation; None if they grow for ever."""
    before = precedence(program)
    lasts = alone_s.copy()
    for join in set(program.join.tolist()) - {-1}:
        lasts[program.join == join] = alone_s[program.join == join].max()
    start = np.zeros(program.num_ops)
    for _ in range(program.num_ops + 1):
        later = np.array(
            [max((start[o] + lasts[o] for o in before[op]), default=0.0) for op in range(len(start))]
        )
        if np.array_equal(later, start):
            return start, start + lasts
        start = later
    return None


def water_filling(routes: list[list[int]], capacity: list[float]) -> list[float]:
    """Raise all rates together by the smallest headroom until every flow crosses a full link."""
    rates = [0.0] * len(routes)
    growing = set(range(len(routes)))
    while growing:
        room = {}
        for link, most in enumerate(capacity):
            crossing = [flow for flow in growing if link in routes[flow]]
            if crossing:
                used = sum(rate for rate, route in zip(rates, routes, strict=True) if link in route)
                room[link] = (most - used) / len(crossing)
        step = min(room.values())
        full = {link for link, headroom in room.items() if headroom <= step * (1 + 1e-12) + 1e-12}
        for flow in growing:
            rates[flow] += step
        growing = {flow for flow in growing if not full & set(routes[flow])}
    return rates


def fluid(program: Program, durations: Durations) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and ends with contention: advance everything from one change to the next."""
    count, before, now = program.num_ops, precedence(program), 0.0
    start, end = np.full(count, np.nan), np.full(count, np.nan)
    fixed, left = durations.fixed_s.copy(), durations.flow_bytes.copy()
    capacity = durations.link_bytes_per_s.tolist()
    while np.isnan(end).any():
        for op in np.flatnonzero(np.isnan(start)):
            if not any(np.isnan(end[other]) for other in before[op]):
                start[op] = now
        running = np.flatnonzero(~np.isnan(start) & np.isnan(end))
        busy = {op for op in running if fixed[op] > 0 or left[op] > 0}
        done = [
            op
            for op in running
            if not busy & {o for o in running if o == op or (program.join[o] == program.join[op] >= 0)}
        ]
        end[done] = now
        if done:
            continue
        waits = [op for op in busy if fixed[op] > 0]
        moves = [op for op in busy if fixed[op] <= 0]
        rates = water_filling([durations.links(int(op)).tolist() for op in moves], capacity)
        steps = [fixed[op] for op in waits] + [left[op] / r for op, r in zip(moves, rates, strict=True)]
        step = min(steps)
        now += step
        for op in waits:
            fixed[op] = 0.0 if fixed[op] <= step * (1 + 1e-12) else fixed[op] - step
        for op, rate in zip(moves, rates, strict=True):
            left[op] = 0.0 if left[op] <= rate * step * (1 + 1e-12) else left[op] - rate * step
    return start, end
