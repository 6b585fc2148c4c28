"""Replicas that run their collectives together."""

from __future__ import annotations

import numpy as np
import pytest
from factories import make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engines import compiled
from simulator.engines.replicas import Coupling, run_replicas
from simulator.errors import SimulationError
from simulator.explore.montecarlo.template import coupling_of
from simulator.workload.program import Stream
from simulator.workload.step.build import build_step

from .programs import Op, build, op_lists

pytestmark = pytest.mark.usefixtures("loops")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_replicas_are_one_program_whose_collectives_join(data: st.DataObject) -> None:
    """Copies of the program side by side, coupled ops in joins across them, say the same."""
    ops = [op for op in data.draw(op_lists(max_steps=8)) if op.join < 0]
    place = {op: number for number, op in enumerate(ops)}
    ops = [Op(op.rank, op.stream) for op in place]
    size, step = data.draw(st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 1)]))
    replicas, ranks = 4, 1 + max((op.rank for op in ops), default=0)
    coupled = [data.draw(st.booleans()) for _ in ops]
    seconds = np.random.default_rng(data.draw(st.integers(0, 99))).exponential(size=(2, len(ops), replicas))
    sizes = np.where(np.array(coupled, dtype=bool), size, 1)
    found = run_replicas(build(ops), seconds, Coupling(size=sizes, stride=np.full(len(ops), step)))
    many = []
    for number, op in enumerate(ops):
        for replica in range(replicas):
            group = replica // (size * step) * step + replica % step if coupled[number] else replica
            join = (number * replicas + group) if coupled[number] and size > 1 else -1
            many.append(Op(op.rank + replica * ranks, op.stream, join))
    expected = compiled.run_batch(build(many), seconds.reshape(2, -1).T.copy()).T
    np.testing.assert_allclose(found.reshape(2, -1), expected, rtol=1e-12)


def test_one_slow_replica_holds_all_up_at_the_collectives_only() -> None:
    scenario = make_scenario(pp=4, dp=8, tp=8, microbatches=8, sharding="zero1")
    program = build_step(scenario).program
    coupling = coupling_of(program, scenario.parallelism)
    assert set(coupling.size.tolist()) == {1, 8}
    assert set(coupling.stride.tolist()) == {1}
    seconds = np.ones((1, program.num_ops, 8))
    seconds[:, program.stream == Stream.COMPUTE, 3] = 2.0
    ends = run_replicas(program, seconds, coupling)[0]
    together = coupling.size > 1
    assert np.all(ends[together] == ends[together, :1])
    alone = compiled.run_batch(program, seconds[0].copy())
    assert ends.max() == pytest.approx(alone[:, 3].max())
    assert alone[:, 0].max() < ends.max()


def test_shard_groups_couple_neighbours_and_their_replicas_at_a_distance() -> None:
    scenario = make_scenario(dp=8, sharding="zero2", shard_size=2)
    coupling = coupling_of(build_step(scenario).program, scenario.parallelism)
    pairs = set(zip(coupling.size.tolist(), coupling.stride.tolist(), strict=True))
    assert pairs == {(1, 1), (2, 1), (4, 2), (8, 1)}


def test_impossible_numbers_are_refused() -> None:
    scenario = make_scenario(dp=2)
    program = build_step(scenario).program
    coupling = coupling_of(program, scenario.parallelism)
    seconds = np.ones((1, program.num_ops, 2))
    seconds[0, 1, 1] = np.nan
    with pytest.raises(SimulationError, match=r"op 1 .* nan seconds"):
        run_replicas(program, seconds, coupling)
    with pytest.raises(SimulationError, match="shape"):
        run_replicas(program, seconds[0], coupling)
