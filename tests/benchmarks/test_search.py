"""How long the best layout of a large space takes to find: see ``test_targets``.

python -m pytest tests/benchmarks/test_search.py -m benchmark -s
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from simulator import load
from simulator.explore.execute import Backend
from simulator.explore.search import search

pytestmark = pytest.mark.benchmark
SCENARIO = Path(__file__).parents[2] / "scenarios" / "search-gpt3-175b-4096.yaml"
TARGET_S = 60.0
JOBS = 2
WIDER = [f"search.free.{name}=auto" for name in ("sharding", "overlap_param_gather", "offload_optimizer")]


def used_s() -> float:
    """Return the processor seconds of this process and of those that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@pytest.mark.parametrize("overrides", [[], WIDER, ["search.front=memory"]], ids=["best", "wider", "front"])
def test_the_best_of_all_layouts_of_gpt3(overrides: list[str], request: pytest.FixtureRequest) -> None:
    begin_s, used_before_s = time.perf_counter(), used_s()
    table = search(load(SCENARIO, overrides), backend=Backend(jobs=JOBS))
    wall_s, processor_s = time.perf_counter() - begin_s, used_s() - used_before_s
    print(  # noqa: T201
        f"\n  GPT-3 175B on 4,096 A100, {request.node.callspec.id}: {table.num_possible:,} layouts of "
        f"{table.size:,} combinations, {table.num_simulated:,} simulated; {JOBS} processes, {wall_s:.1f} s, "
        f"{processor_s:.1f} processor s; target {TARGET_S:.0f} s, {TARGET_S / wall_s:.2f} x",
        end="",
    )
    assert table.best
