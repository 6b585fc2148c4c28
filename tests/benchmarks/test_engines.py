"""What the engines cost beside bare SimPy and numpy, on this machine.

    python -m pytest tests/benchmarks -m benchmark -s

Times are processor seconds, the best of several runs; ratios hold on a busy machine, seconds do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import simpy
from factories import make_scenario

from simulator import api
from simulator.engines import compiled, event
from simulator.engines.compiled import Order
from simulator.engines.durations import Durations
from simulator.workload.step.build import build_step

from .timing import MODEL, best, machine, say, side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from simulator.workload.program import Program

pytestmark = pytest.mark.benchmark


@pytest.fixture(scope="module")
def program() -> Program:
    """Return a step of 16 stages, 8 chunks and 16 micro-batches."""
    say(machine())
    scenario = make_scenario(model=MODEL, tp=8, pp=16, vpp=8, dp=4, microbatches=16)
    return build_step(scenario).program


def timeouts(count: int) -> None:
    """Let bare SimPy wait that often."""

    def wait() -> Generator[simpy.Event, None, None]:
        for _ in range(count):
            yield env.timeout(1.0)

    env = simpy.Environment()
    env.process(wait())
    env.run()


def test_events_per_second_over_bare_simpy(program: Program) -> None:
    given = Durations.of(np.random.default_rng(0).exponential(size=program.num_ops))
    ours, bare = side_by_side(lambda: event.run(program, given), lambda: timeouts(program.num_ops))
    say(f"event engine: {program.num_ops} ops in {ours * 1e3:.1f} ms, {bare / ours:.2f} of bare SimPy's rate")
    assert bare / ours > 0.5


def test_one_run_over_the_event_engine(program: Program, loops: str) -> None:
    given = Durations.of(np.random.default_rng(0).exponential(size=program.num_ops))
    slow, fast = side_by_side(lambda: event.run(program, given), lambda: compiled.run(program, given))
    say(f"compiled engine, {loops}: {fast * 1e3:.2f} ms, {slow / fast:.0f} times as fast as events")
    assert slow / fast > 1.5


def test_a_batch_over_a_wavefront_in_numpy(program: Program, loops: str) -> None:
    own = np.random.default_rng(0).exponential(size=(program.num_ops, 128))
    samples = own[Order.of(program).node]  # those who start together take equally long
    ours = best(lambda: compiled.run_batch(program, samples))
    wave = wavefront(program)
    theirs = best(lambda: wave(samples), 3)
    np.testing.assert_array_equal(compiled.run_batch(program, samples), wave(samples))
    events = best(lambda: event.run(program, Durations.of(samples[:, 0].copy())), 3) * samples.shape[1]
    say(
        f"128 samples, {loops}: {ours * 1e3:.1f} ms, {ours / samples.size * 1e9:.1f} ns for an op; "
        f"{theirs / ours:.1f} times as fast as a wavefront, {events / ours:.0f} times as fast as events"
    )


def wavefront(program: Program) -> Callable[[np.ndarray], np.ndarray]:
    """Return the usual way in numpy: one level of the graph after the other."""
    around = Order.of(program)
    level = np.zeros(program.num_ops, dtype=np.int64)
    first, last = around.predecessor_start, around.predecessor_end
    for node in around.nodes:
        before = around.predecessor[first[node] : last[node]]
        level[node] = level[before].max(initial=-1) + 1
    levels = [np.flatnonzero(level == number) for number in range(level.max() + 1)]
    edges = [
        (
            nodes,
            np.concatenate([around.predecessor[first[node] : last[node]] for node in nodes]),
            np.cumsum([0, *(last[nodes] - first[nodes])[:-1]]),
        )
        for nodes in levels[1:]
    ]

    def run(seconds: np.ndarray) -> np.ndarray:
        ends = seconds.copy()
        for nodes, before, begins in edges:
            ends[nodes] += np.maximum.reduceat(ends[before], begins, axis=0)
        return ends[around.node]

    return run


def test_a_whole_simulation_beside_its_engine() -> None:
    scenario = make_scenario(model=MODEL, tp=8, pp=16, vpp=8, dp=4, microbatches=128)
    program = build_step(scenario).program
    build = best(lambda: build_step(scenario), 3)
    whole = best(lambda: api.simulate(scenario), 3)
    quick = best(lambda: api.simulate(scenario, quick=True), 3)
    bare = best(lambda: timeouts(program.num_ops))
    each = build / program.num_ops
    say(f"{program.num_ops} ops: build {build * 1e3:.0f} ms ({each * 1e6:.1f} us for an op)")
    say(f"simulate {whole * 1e3:.0f} ms, quick {quick * 1e3:.0f} ms, bare SimPy {bare * 1e3:.0f} ms")
