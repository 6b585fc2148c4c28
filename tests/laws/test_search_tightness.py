"""A search's bounds are most of what is simulated: a bound that counts too little breaks no other law.

Where nothing is in doubt (one rank, one axis of parallelism) the bounds are all but exact. The shares below
are the smallest over all models and settings here, rounded down; what they leave out is named beside them.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laws.search_spaces import bounded_layouts, put
from laws.test_search_bounds import MODELS
from simulator import files
from simulator.batch.evaluate import evaluate
from simulator.explore.search.branch_and_bound import BranchAndBound
from simulator.explore.search.candidates import Candidates


class Case(NamedTuple):
    """Layouts, and the least share of a step's seconds and of the fullest rank's bytes that bounds count."""

    parallelism: dict[str, object]
    free: dict[str, list[object]]
    time: float
    memory: float


SHARDED: dict[str, list[object]] = {"parallelism.sharding": ["none", "zero1", "zero2"]}
FULLY: dict[str, list[object]] = {"parallelism.sharding": ["zero3"]}
IN_PIPELINE: dict[str, list[object]] = {
    "parallelism.schedule": [None, "gpipe"],
    "parallelism.vpp": [1, 2],
    "parallelism.sharding": ["none", "zero2"],
    "training.overlap.p2p": [True, False],
}
CASES: dict[str, Case] = {
    "one rank": Case({}, {**SHARDED, **FULLY}, 0.99, 0.94),  # transient buffers
    "tensor parallel": Case({"tp": 4}, SHARDED, 0.99, 0.96),
    "context parallel": Case({"cp": 4}, SHARDED, 0.97, 0.97),  # gradients beside the last pass
    "data parallel": Case({"dp": 4}, SHARDED, 0.95, 0.91),  # buckets behind the last pass
    "fully sharded": Case({"dp": 4}, FULLY, 0.87, 0.8),  # gathers that nothing hides, units held ahead
    "pipeline": Case({"pp": 4}, IN_PIPELINE, 0.95, 0.95),  # messages beside passes
}
ALWAYS: dict[str, list[object]] = {
    "training.recompute": ["none", "selective", "full"],
    "training.offload.activations": ["none", "all"],
    "training.micro_batch_size": [1, 2],
}


@pytest.mark.parametrize("model", sorted(set(MODELS) - {"uneven"}))
@pytest.mark.parametrize("name", CASES)
def test_bounds_count_most_of_a_step_and_of_its_memory(name: str, model: str) -> None:
    case = CASES[name]
    gpus = 4 if case.parallelism else 1
    content: dict[str, Any] = {
        "cluster": {"gpu": "h100-80gb-sxm", "gpus": gpus, "network": "fat-tree-400g"},
        "model": dict(MODELS[model]),
        "parallelism": {**case.parallelism},
        "training": {"seq_length": 2048, "global_batch_size": 16},
    }
    put(content, "search", {"free": {**case.free, **ALWAYS}})
    rows = bounded_layouts(files.from_document(content))
    results = evaluate([row.scenario for row in rows])
    simulated = [number for number, problem in enumerate(results.problems) if not problem]
    assert len(simulated) >= 12
    for number in simulated:
        about = f"{rows[number].scenario.parallelism} {rows[number].scenario.training}"
        assert rows[number].placed_s >= case.time * results.step_time_s[number], about
        assert rows[number].memory_bytes >= case.memory * results.peak_memory_bytes[number], about
        assert rows[number].near_s >= 0.5 * rows[number].placed_s, about


@pytest.mark.parametrize("model", ["dense", "few key-value heads", "large vocabulary"])
@pytest.mark.parametrize("degrees", [{"pp": 4}, {"pp": 2, "tp": 2}], ids=str)
def test_a_pipeline_of_one_micro_batch_has_one_path_and_its_bound_is_exact(
    degrees: dict[str, object], model: str
) -> None:
    """Forward through all stages and back, a slow message between any two: no rank hides anything."""
    content: dict[str, Any] = {
        "cluster": {
            "gpu": "h100-80gb-sxm",
            "gpus": 4,
            "network": {"bandwidth_per_gpu": "1 Gb/s"},
            "scale_up_domain": 1,
        },
        "model": dict(MODELS[model]),
        "parallelism": {**degrees, "placement": ["pp", "tp", "cp", "dp"]},
        "training": {"seq_length": 2048, "global_batch_size": 1},
    }
    free = {"parallelism.schedule": ["1f1b", "gpipe"], "training.overlap.p2p": [True, False]}
    put(content, "search", {"free": free})
    rows = bounded_layouts(files.from_document(content))
    step_time_s = evaluate([row.scenario for row in rows]).step_time_s
    assert len(rows) == 4
    for row, seconds in zip(rows, step_time_s, strict=True):
        about = f"{row.scenario.parallelism} {row.scenario.training}"
        assert row.placed_s >= 0.999 * seconds, about


NUMBERS = st.integers(1, 6).map(float)
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=6)


@given(timed=POINTS, waiting=POINTS)
def test_a_candidate_is_dominated_where_a_timed_layout_is_no_worse_in_both_respects(
    timed: list[tuple[float, float]], waiting: list[tuple[float, float]]
) -> None:
    results = [SimpleNamespace(pace=pace, memory_bytes=size, region=0, timed=True) for pace, size in timed]
    search = SimpleNamespace(_gpus=np.ones(1), results=results, front="memory")
    count = len(waiting)
    nothing = np.zeros(count, dtype=np.int64)
    pace, memory = np.array(waiting, dtype=np.float64).reshape(-1, 2).T
    candidates = Candidates(
        region=nothing,
        family=nothing,
        pair=nothing,
        step=nothing,
        score=pace,
        pace=pace,
        memory=memory,
        with_topology=np.zeros(count, dtype=np.bool_),
    )
    dominated = BranchAndBound._is_dominated(search, candidates)  # type: ignore[arg-type]
    assert dominated.tolist() == [any(a <= one and b <= other for a, b in timed) for one, other in waiting]
