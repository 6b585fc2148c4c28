"""What is told of one layout and of columns of layouts is the same, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from factories import make_scenario
from hypothesis import given
from hypothesis import strategies as st

from simulator.workload.grid import ExpertMesh, Mesh
from simulator.workload.parameters.bytes import ParameterBytes
from simulator.workload.parameters.optimizer_offload import StateOffload, held_state_bytes, state_offload
from simulator.workload.step.messages import message_bytes

if TYPE_CHECKING:
    from simulator.scenario.parallelism import Axis

DEGREES = st.lists(st.tuples(*[st.integers(1, 8)] * 4), min_size=1, max_size=8)
PLACEMENTS = st.permutations(["tp", "cp", "dp", "pp"]).map(tuple)
OFFLOADS = st.builds(
    state_offload,
    st.sampled_from(["none", "stream", "cpu"]),
    st.floats(0.1, 1.0),
    st.booleans(),
    st.floats(1e6, 1e9),
)


@given(DEGREES, PLACEMENTS)
def test_strides_of_columns_are_those_of_each_layout(
    rows: list[tuple[int, ...]], placement: tuple[Axis, ...]
) -> None:
    tp, cp, dp, pp = np.array(rows).T
    columns = Mesh(placement=placement, tp=tp, cp=cp, dp=dp, pp=pp)
    experts = ExpertMesh(mesh=columns, ep=np.ones_like(tp), etp=tp)
    for row, degrees in enumerate(rows):
        layout = Mesh(placement=placement, **dict(zip(("tp", "cp", "dp", "pp"), degrees, strict=True)))
        for axis in placement:
            assert columns.stride(axis)[row] == layout.stride(axis)
        assert columns.replica_stride()[row] == layout.replica_stride() == layout.replicas().stride
        assert columns.gpus[row] == layout.gpus
        assert experts.edp[row] == ExpertMesh(mesh=layout, ep=1, etp=layout.tp).edp


@given(DEGREES.map(lambda rows: rows[0]), PLACEMENTS)
def test_strides_number_every_rank_once(degrees: tuple[int, ...], placement: tuple[Axis, ...]) -> None:
    mesh = Mesh(placement=placement, **dict(zip(("tp", "cp", "dp", "pp"), degrees, strict=True)))
    groups = [mesh.group(axis) for axis in placement]
    ranks = np.zeros(1, dtype=np.int64)
    for group in groups:
        ranks = (ranks[:, None] + group.stride * np.arange(group.size)).reshape(-1)
    assert sorted(ranks.tolist()) == list(range(mesh.gpus))


@given(st.lists(st.floats(0.0, 1e12), min_size=1, max_size=8), OFFLOADS)
def test_held_state_of_columns_is_that_of_each_rank(rows: list[float], offload: StateOffload) -> None:
    scenario = make_scenario()
    sizes = ParameterBytes.of(scenario.training, scenario.software, None)
    columns = held_state_bytes(np.array(rows), sizes, offload)
    assert columns.tolist() == [held_state_bytes(row, sizes, offload) for row in rows]


@given(
    st.lists(st.tuples(st.integers(1, 1 << 20), st.integers(1, 64), st.booleans()), min_size=1), st.booleans()
)
def test_messages_of_columns_are_those_of_each_layout(rows: list[tuple[int, int, bool]], whole: bool) -> None:
    tokens, tp, divided = (np.array(column) for column in zip(*rows, strict=True))
    columns = message_bytes(tokens, tp, 16384.0, whole_messages=whole, sequence_parallel=divided)
    assert columns.tolist() == [
        message_bytes(row[0], row[1], 16384.0, whole_messages=whole, sequence_parallel=row[2]) for row in rows
    ]
