"""The regions of a search's space, made of plain data: the same on whichever machine.

A layout is better than another by a score, less is better, that grows with the step's time.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from simulator import files
from simulator.errors import SimulatorError
from simulator.explore.search.axes import axis_values
from simulator.explore.search.bound_costs import Prices
from simulator.explore.search.layouts import Layouts
from simulator.files import Variations
from simulator.scenario.search import AXES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.explore.search.layer_classes import Floats
    from simulator.scenario import Cluster, Scenario, Search


_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """How the layouts of one scenario score, by the seconds of a step.

    Attributes:
        rank_by: See ``scenario.Search``.
        gpus: GPUs of the job.
        tokens: Tokens of a step.
        price: Price of a GPU for one hour; 1 where GPU hours are counted.
        slowest_s: Seconds of a step beyond which the target is missed.
    """

    rank_by: str
    gpus: int
    tokens: int
    price: float
    slowest_s: float

    @classmethod
    def of(cls, search: Search, cluster: Cluster, tokens: int) -> Goal:
        """Return the goal of a search on a cluster, with so many tokens per step."""
        price = cluster.price_per_gpu_hour
        return cls(
            rank_by=search.rank_by,
            gpus=cluster.gpus,
            tokens=tokens,
            price=1.0 if price is None else price,
            slowest_s=np.inf if search.tokens_per_s is None else tokens / search.tokens_per_s,
        )

    def pace(self, step_s: Floats) -> Floats:
        """Return seconds per token of the whole job, or infinity where that misses the target."""
        return np.where(step_s <= self.slowest_s, step_s / self.tokens, np.inf)

    def cost_per_token(self, step_s: float) -> float:
        """Return GPU hours per token, times the price."""
        return step_s / self.tokens * self.gpus / _SECONDS_PER_HOUR * self.price

    def score(self, step_s: Floats) -> Floats:
        """Return the score of steps of so many seconds: infinite where they miss the target.

        Seconds per token, GPU hours or dollars per token, or the number of GPUs and, among equals, a fraction
        of one that grows with the time. None of them falls as the time grows: a bound on the time bounds the
        score.
        """
        if self.rank_by == "cost":
            score = step_s / self.tokens * self.gpus / _SECONDS_PER_HOUR * self.price
        elif self.rank_by == "gpus":
            score = self.gpus + 0.5 * step_s / self.slowest_s
        else:
            score = step_s / self.tokens
        return np.where(step_s <= self.slowest_s, score, np.inf)


IMPOSSIBLE = "no valid scenario"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subspace:
    """Layouts that share everything but the axes: one number of GPUs, one batch, ...

    Attributes:
        settings: What sets it apart, by dotted path.
        layouts: Its layouts.
        goal: How they score.
        prices: Prices on its hardware.
    """

    settings: dict[str, object]
    layouts: Layouts
    goal: Goal
    prices: Prices


@dataclass(frozen=True, slots=True, kw_only=True)
class Subspaces:
    """A whole space.

    Attributes:
        regions: Its parts.
        size: Combinations of all values.
        lost: Parts that make no scenario, by reason.
    """

    regions: tuple[Subspace, ...]
    size: int
    lost: Counter[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a space is made of, as plain data that survives a network.

    Attributes:
        document: The scenario's content.
        name: Its name.
        search: What is free.
    """

    document: Mapping[str, object]
    name: str
    search: Search

    def regions(self) -> Subspaces:
        """Lay out the space."""
        scenario = files.from_document({**self.document, "name": self.name}, searched=True)
        return subspaces_of(scenario, self.search)


def subspaces_of(scenario: Scenario, wanted: Search) -> Subspaces:
    """Split the space by the settings that are no axes: each combination of them is a region."""
    others = {path: values for path, values in wanted.free.items() if path not in AXES.values()}
    regions, size, lost = [], 0, Counter[str]()
    in_dollars = True
    for values in itertools.product(*(given or () for given in others.values())):
        settings = dict(zip(others, values, strict=True))
        variations = _varied(scenario, settings)
        if isinstance(variations, str):
            lost[f"{IMPOSSIBLE}: {variations}"] += 1
            continue
        layouts = Layouts.of(axis_values(wanted, variations), variations)
        size += layouts.space.size
        in_dollars = in_dollars and variations.cluster.price_per_gpu_hour is not None
        example = variations.file
        tokens = example.training.global_batch_size * example.training.seq_length
        goal = Goal.of(wanted, variations.cluster, tokens)
        regions.append(Subspace(settings=settings, layouts=layouts, goal=goal, prices=Prices(layouts.system)))
    if not in_dollars:
        regions = [replace(region, goal=replace(region.goal, price=1.0)) for region in regions]
    return Subspaces(regions=tuple(regions), size=size, lost=lost)


def _varied(scenario: Scenario, settings: Mapping[str, object]) -> Variations | str:
    """Return the scenario with some settings replaced, or why it is none."""
    try:
        return Variations.of(scenario, overrides_of(settings))
    except SimulatorError as error:
        return "; ".join(line.strip() for line in str(error).splitlines())


def overrides_of(settings: Mapping[str, object]) -> list[str]:
    """Return settings as ``--set`` takes them; JSON is YAML."""
    return [f"{path}={json.dumps(value)}" for path, value in settings.items() if value is not None]
