"""``search``: from a scenario to its best layouts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from simulator import api, files
from simulator.errors import InputError
from simulator.explore.execute import LOCAL, Backend
from simulator.explore.search.branch_and_bound import SLOWER, BranchAndBound, Simulated, pareto_front
from simulator.explore.search.subspaces import Origin, overrides_of, subspaces_of
from simulator.explore.search.table import Layout, Ranked, SearchTable
from simulator.explore.search.workers import workers_of
from simulator.files import Variations
from simulator.files.searches import DP
from simulator.scenario.search import AXES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.explore.search.subspaces import Subspace
    from simulator.results.result import Result
    from simulator.scenario import Scenario, Search


_ROUNDING = 1e-9
"""Share of a step's time up to which a term is the same."""


def search(
    scenario: Scenario,
    *,
    progress: Callable[[str], None] | None = None,
    backend: Backend = LOCAL,
) -> SearchTable:
    """Find the best layouts of a scenario: what simulating every combination would find, without doing it.

    Layouts that do not fit in memory are left out. The best and the front are timed and ranked by the engine
    of ``run``, and so is whatever may be faster than these; the other layouts by the compiled engine only.

    Args:
        scenario: A scenario loaded from a file or a document; its ``search:`` block says what is free and
            what is best. Without one, the degrees of parallelism, the micro-batch size, sharding and
            recomputation are free, and the most tokens per second are best.
        progress: Called now and then with a line for people.
        backend: Who builds layers and simulates; see ``execute``. The result does not depend on it.

    Raises:
        InputError: The scenario was not loaded, or has pools of different GPUs, or the backend cannot be
            used.
    """
    start_s = time.perf_counter()
    if not scenario.document:
        raise InputError(f"{scenario.name}: a search changes settings of a file; use load")
    if scenario.cluster.pools:
        raise InputError(f"{scenario.name}: a search needs one kind of GPU, but cluster.pools has several")
    base = Variations.of(scenario)
    wanted = scenario.search or base.usual_search()
    space = subspaces_of(scenario, wanted)
    regions = space.regions
    origin = Origin(document=scenario.document, name=scenario.name, search=wanted)
    with workers_of([region.layouts for region in regions], origin, backend) as workers:
        run = BranchAndBound(
            regions=regions,
            workers=workers,
            shares_links=scenario.engine == "event",
            top=wanted.top,
            front=wanted.front,
            say=progress or (lambda _: None),
            lost=space.lost,
        )
        run.run()
    ranked = sorted(
        (layout for layout in run.results if layout.timed and np.isfinite(layout.score)),
        key=lambda each: (each.score, each.memory_bytes),
    )
    best = ranked[: wanted.top]
    run.lost[SLOWER] += len(run.results) - len(best)
    gpus = np.asarray([region.goal.gpus for region in regions], dtype=np.float64)
    return SearchTable(
        scenario=scenario,
        search=wanted,
        best=_explained(scenario, regions, wanted, best),
        front=tuple(_layout(regions, wanted, each) for each in pareto_front(ranked, wanted.front, gpus)),
        simulated=tuple(_layout(regions, wanted, layout) for layout in run.results),
        size=space.size,
        num_possible=sum(int(region.layouts.space.possible.sum()) for region in regions),
        lost=dict(+run.lost),
        elapsed_s=time.perf_counter() - start_s,
        num_simulated=run.simulated,
        num_timed=run.num_timed,
    )


def _explained(
    scenario: Scenario, regions: Sequence[Subspace], wanted: Search, best: Sequence[Simulated]
) -> tuple[Ranked, ...]:
    """Simulate the best layouts in full, and say what the others lose to the first."""
    results = [_whole(scenario, regions[each.region], wanted, each) for each in best]
    return tuple(
        Ranked(
            layout=_layout(regions, wanted, each),
            result=result,
            lost_by=None if result is results[0] else _lost_by(results[0], result),
        )
        for each, result in zip(best, results, strict=True)
    )


def _whole(scenario: Scenario, region: Subspace, wanted: Search, each: Simulated) -> Result:
    chosen = {AXES[name]: value for name, value in each.settings.items()}
    settings = {path: value for path, value in chosen.items() if path in wanted.free} | region.settings
    named = {**scenario.document, "name": scenario.name}
    return api.simulate(files.from_document(named, overrides=overrides_of(settings)), quick=True)


def _lost_by(best: Result, other: Result) -> tuple[str, float] | None:
    """Return the term of the breakdown that grew most, and by how many seconds."""
    before, after = best.breakdown.as_dict(), other.breakdown.as_dict()
    grown = {name: after[name] - before[name] for name in after}
    most = max(grown, key=grown.__getitem__)
    return (most, grown[most]) if grown[most] > _ROUNDING * best.metrics["step_time_s"] else None


def _layout(regions: Sequence[Subspace], wanted: Search, simulated: Simulated) -> Layout:
    """Return a simulated layout as users read it: by its free settings, with what its goal measures."""
    region = regions[simulated.region]
    paths = {AXES[name]: value for name, value in simulated.settings.items()} | region.settings
    goal = region.goal
    return Layout(
        settings={path: paths[path] for path in wanted.free if path != DP},
        gpus=goal.gpus,
        step_time_s=simulated.step_s,
        tokens_per_s=goal.tokens / simulated.step_s,
        peak_memory_bytes=simulated.memory_bytes,
        cost_per_token=goal.cost_per_token(simulated.step_s),
    )
