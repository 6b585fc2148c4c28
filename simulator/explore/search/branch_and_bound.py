"""Best first: simulate the layout with the least bound, until no bound is below the worst of the best.

Layouts are simulated many at once by the compiled engine, without transfers that share links. Those that may
be among the best, or on the front, are then timed by the engine of ``run``, whose answer counts. Every layout
is either excluded by a rule, or does not fit by a bound on its memory, or has a bound on its score that is no
better than that of layouts already timed, or takes at least as long whatever engine runs it (``least_s``), or
is timed itself. So what is found is what ``run`` of all of them would find.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from simulator.explore.search.candidates import Candidates
from simulator.explore.search.memory_bound import memory_bound
from simulator.explore.search.time_bound import time_bound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.explore.search.layer_classes import Floats
    from simulator.explore.search.space import Bools, Ints
    from simulator.explore.search.subspaces import Subspace
    from simulator.explore.search.tasks import Place
    from simulator.explore.search.workers import Workers

TOO_LARGE = "needs more memory than a GPU has"
TOO_LARGE_SIMULATED = "does not fit, simulated"
TOO_SLOW = "cannot be better: bound on its time"
SLOWER = "slower, simulated"
MISSES = "misses the target"
_REFINED = 1024
"""Candidates whose bounds are improved at a time."""
_SIMULATED = 128
"""Candidates that are simulated at a time."""


def _least(scores: Floats, count: int) -> Ints:
    """Return the places of so many of the least scores."""
    size = min(count, len(scores))
    places: Ints = np.argpartition(scores, size - 1)[:size]
    return places


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """A layout that was simulated and fits.

    Attributes:
        place: Its region, and its place in the region's space.
        settings: Settings of its axes, by short name.
        step_s: Seconds of a step: by the engine of ``run`` where it is timed, or else by the compiled one.
        least_s: Seconds that it takes at least, whatever engine runs it.
        timed: Whether it is timed.
        memory_bytes: What its fullest GPU holds.
        score: Less is better; infinite where it misses the target.
        pace: Seconds per token of the whole job; likewise.
    """

    place: Place
    settings: dict[str, object]
    step_s: float
    least_s: float
    timed: bool
    memory_bytes: float
    score: float
    pace: float

    @property
    def region(self) -> int:
        """Its region."""
        return self.place[0]


@dataclass(slots=True, kw_only=True)
class BranchAndBound:
    """One search.

    Attributes:
        regions: Where to look.
        workers: Who builds and simulates.
        shares_links: Whether ``run`` lets transfers share links, so that the compiled engine does not say the
            same.
        top: How many of the best are wanted.
        front: Whether layouts that hold less memory (or run on fewer GPUs) than all better ones are wanted:
            ``memory``, ``gpus`` or ``none``.
        say: Called now and then with a line for people.
        found: What was simulated and fits.
        lost: Why other layouts lost, and how many.
        simulated: Layouts that were simulated.
    """

    regions: Sequence[Subspace]
    workers: Workers
    shares_links: bool
    top: int
    front: str
    say: Callable[[str], None]
    results: list[Simulated] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    simulated: int = 0

    def run(self) -> None:
        """Simulate what must be."""
        waiting = Candidates.joined(
            of_family for index in range(len(self.regions)) for of_family in self._candidates(index)
        )
        while len(waiting):
            close = _least(waiting.score, _REFINED)
            first = close[_least(waiting.score[close], _SIMULATED)]
            if not waiting.with_topology[first].all():
                self._refine(waiting, close[~waiting.with_topology[close]])
            else:
                self._simulate(waiting.take(first))
                remaining = np.ones(len(waiting), dtype=np.bool_)
                remaining[first] = False
                waiting = waiting.take(remaining)
                self._time(self._leaders(self.results))
            waiting = self._prune(waiting)
            closely = (
                f", {int(waiting.with_topology.sum()):,} of these looked at closely" if len(waiting) else ""
            )
            self.say(f"{self.simulated:,} layouts simulated, {len(waiting):,} may still be better{closely}")
        while self._time(self._leaders([self._at_best(layout) for layout in self.results])):
            self.say(f"{self.num_timed:,} layouts timed with transfers that share links")

    @property
    def num_timed(self) -> int:
        """Layouts that were timed by the engine of ``run``."""
        return sum(layout.timed for layout in self.results)

    def _candidates(self, index: int) -> list[Candidates]:
        """Bound every possible layout of a region, counting kernels only."""
        region = self.regions[index]
        layouts = region.layouts
        capacity = layouts.system.cluster.gpu.memory_bytes
        which_part = f", part {index + 1} of {len(self.regions)}" if len(self.regions) > 1 else ""
        self.say(f"bounds of {int(layouts.space.possible.sum()):,} layouts{which_part}")
        self.lost += layouts.space.excluded
        candidates = []
        all_pairs = [np.arange(len(family.shape)) for family in layouts.families]
        self._build(index, all_pairs, with_topology=False, timed=False)
        bounds = []
        for family in layouts.families:
            possible = layouts.space.possible[family.shape, family.layer]
            memory = memory_bound(layouts, family)
            fits = possible & (memory <= capacity)
            self.lost[TOO_LARGE] += int(possible.sum()) - int(fits.sum())
            bounds.append((memory, fits, np.flatnonzero(fits.any(axis=1))))
        self._build(index, [pairs for *_, pairs in bounds], with_topology=False, timed=True)
        for family_index, (family, (memory, fits, pairs)) in enumerate(
            zip(layouts.families, bounds, strict=True)
        ):
            if not pairs.size:
                continue
            seconds = time_bound(layouts, region.prices, family, pairs, with_topology=False)
            score, pace = region.goal.score(seconds), region.goal.pace(seconds)
            pair, step = np.nonzero(fits[pairs])
            candidates.append(
                Candidates(
                    region=np.full(len(pair), index),
                    family=np.full(len(pair), family_index),
                    pair=pairs[pair],
                    step=step,
                    score=score[pair, step],
                    pace=pace[pair, step],
                    memory=memory[pairs[pair], step],
                    with_topology=np.zeros(len(pair), dtype=np.bool_),
                )
            )
        return candidates

    def _build(self, index: int, pairs: Sequence[Ints], *, with_topology: bool, timed: bool) -> None:
        """Let the layers of some pairs of each family be built or timed."""
        layouts = self.regions[index].layouts
        wanted = {
            (layer_class, family.profile.number)
            for family, of_family in zip(layouts.families, pairs, strict=True)
            if len(of_family)
            for layer_class in layouts.classes(family, of_family, with_topology=with_topology)[0]
        }
        self.workers.build(index, sorted(wanted), with_topology=with_topology, timed=timed)

    def _refine(self, waiting: Candidates, rough: Ints) -> None:
        """Improve the bounds of some candidates, and of all of their families whose layers are the same."""
        asking = np.stack([waiting.region[rough], waiting.family[rough]], axis=1)
        pairs = waiting.pair
        # Candidates stand in the order of their regions and families, from the first to the last.
        most = max(len(region.layouts.families) for region in self.regions)
        position = waiting.region * most + waiting.family
        refined = []
        for region, index in np.unique(asking, axis=0).tolist():
            layouts, family = (
                self.regions[region].layouts,
                self.regions[region].layouts.families[index],
            )
            start, end = np.searchsorted(position, region * most + index + np.array([0, 1])).tolist()
            members = start + np.flatnonzero(~waiting.with_topology[start:end])
            asked = rough[(waiting.region[rough] == region) & (waiting.family[rough] == index)]
            classes = layouts.with_topology.of[family.shape, family.layer]
            members = members[np.isin(classes[pairs[members]], classes[pairs[asked]])]
            refined.append((region, index, members))
        for region in {region for region, *_ in refined}:
            wanted = [np.zeros(0, dtype=np.int64)] * len(self.regions[region].layouts.families)
            for of_region, index, members in refined:
                if of_region == region:
                    wanted[index] = np.unique(pairs[members])
            self._build(region, wanted, with_topology=True, timed=True)
        for region, index, members in refined:
            layouts, goal = self.regions[region].layouts, self.regions[region].goal
            rows, of = np.unique(pairs[members], return_inverse=True)
            bound = time_bound(
                layouts, self.regions[region].prices, layouts.families[index], rows, with_topology=True
            )
            seconds = bound[of, waiting.step[members]]
            waiting.score[members] = np.maximum(waiting.score[members], goal.score(seconds))
            waiting.pace[members] = np.maximum(waiting.pace[members], goal.pace(seconds))
            waiting.with_topology[members] = True

    def _simulate(self, chosen: Candidates) -> None:
        """Simulate some candidates."""
        places = []
        for row in np.stack([chosen.region, chosen.family, chosen.pair, chosen.step], axis=1).tolist():
            region, index, pair, step = row
            family = self.regions[region].layouts.families[index]
            places.append((region, int(family.shape[pair]), int(family.layer[pair]), step))
        self.simulated += len(places)
        for place, outcome in zip(places, self.workers.simulate(places), strict=True):
            if outcome.problem or not outcome.fits:
                self.lost[outcome.problem or TOO_LARGE_SIMULATED] += 1
                continue
            region, *at = place
            layout = Simulated(
                place=place,
                settings=self.regions[region].layouts.space.settings(*at),
                step_s=outcome.step_s,
                least_s=outcome.least_s,
                timed=not self.shares_links,
                memory_bytes=outcome.memory_bytes,
                score=0.0,
                pace=0.0,
            )
            self.results.append(self._taking(layout, outcome.step_s))

    def _taking(self, layout: Simulated, step_s: float) -> Simulated:
        """Return a layout as one whose step takes so long."""
        goal, seconds = self.regions[layout.region].goal, np.asarray(step_s)
        score, pace = float(goal.score(seconds)), float(goal.pace(seconds))
        return replace(layout, step_s=step_s, score=score, pace=pace)

    def _at_best(self, layout: Simulated) -> Simulated:
        """Return a layout as fast as it may be by the engine of ``run``."""
        return layout if layout.timed else self._taking(layout, layout.least_s)

    def _leaders(self, layouts: Sequence[Simulated]) -> list[int]:
        """Return which layouts are among the best or on the front, and are not timed yet."""
        index_of = {layout.place: index for index, layout in enumerate(layouts)}
        ranked = sorted(
            (layout for layout in layouts if np.isfinite(layout.score)), key=lambda layout: layout.score
        )
        leaders = [*ranked[: self.top], *pareto_front(layouts, self.front, self._gpus)]
        return sorted({index_of[layout.place] for layout in leaders if not layout.timed})

    def _time(self, indices: Sequence[int]) -> bool:
        """Time some layouts by the engine of ``run``; return whether there were any."""
        if indices:
            seconds = self.workers.time_steps([self.results[index].place for index in indices])
            for index, step_s in zip(indices, seconds, strict=True):
                self.results[index] = replace(self._taking(self.results[index], step_s), timed=True)
        return bool(indices)

    @property
    def _gpus(self) -> Floats:
        return np.asarray([region.goal.gpus for region in self.regions], dtype=np.float64)

    def _prune(self, waiting: Candidates) -> Candidates:
        """Drop candidates that cannot be among the best, nor on the front."""
        scores = np.sort([layout.score for layout in self.results if layout.timed])
        worst = scores[self.top - 1] if len(scores) >= self.top else np.inf
        misses = np.isinf(waiting.score)
        useful = ~misses & (waiting.score <= worst)
        if self.front != "none":
            useful |= ~misses & ~self._is_dominated(waiting)
        self.lost[MISSES] += int(misses.sum())
        self.lost[TOO_SLOW] += int((~useful & ~misses).sum())
        return waiting if useful.all() else waiting.take(useful)

    def _is_dominated(self, waiting: Candidates) -> Bools:
        """Tell whether a layout already timed is no worse in both respects than a candidate may be."""
        dominated = np.zeros(len(waiting), dtype=np.bool_)
        gpus, timed = self._gpus, [layout for layout in self.results if layout.timed]
        second: Floats = waiting.memory if self.front == "memory" else gpus[waiting.region]
        for layout in pareto_front(timed, self.front, gpus):
            least = layout.memory_bytes if self.front == "memory" else gpus[layout.region]
            dominated |= (waiting.pace >= layout.pace) & (second >= least)
        return dominated


def pareto_front(layouts: Sequence[Simulated], front: str, gpus: Floats) -> list[Simulated]:
    """Return the layouts that no other beats in one respect without losing in the other, fastest first."""
    if front == "none":
        return []
    best: list[Simulated] = []
    least = np.inf
    for layout in sorted(layouts, key=lambda layout: (layout.pace, layout.memory_bytes)):
        second = layout.memory_bytes if front == "memory" else float(gpus[layout.region])
        if second < least and np.isfinite(layout.pace):
            best.append(layout)
            least = second
    return best
