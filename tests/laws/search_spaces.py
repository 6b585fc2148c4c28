"""Small search spaces, every layout that scenario files allow in one, and what the search says of it.

Only this file looks inside the search: ``possible_layouts`` and ``bounded_layouts``.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simulator import files
from simulator.errors import SimulatorError
from simulator.explore.search.axes import axis_values
from simulator.explore.search.bound_costs import Prices
from simulator.explore.search.layouts import Layouts
from simulator.explore.search.memory_bound import memory_bound
from simulator.explore.search.time_bound import time_bound
from simulator.files import Variations
from simulator.scenario.search import AXES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from simulator.scenario import Scenario

USUAL_SHARE = 0.7
"""How often a free setting may also be what it usually is, so that some combination breaks no rule."""


class Bounded(NamedTuple):
    """A layout and its bounds: bytes, seconds with layers' kernels alone, seconds with layers run in full."""

    scenario: Scenario
    memory_bytes: float
    near_s: float
    placed_s: float


def _layouts(scenario: Scenario) -> Layouts:
    assert scenario.search is not None
    variations = Variations.of(scenario, ["parallelism.dp=auto"])
    return Layouts.of(axis_values(scenario.search, variations), variations)


def possible_layouts(scenario: Scenario) -> list[Scenario]:
    """Return the layouts that the search looks at, less those that turn out to break a rule."""
    layouts = _layouts(scenario)
    built = []
    for shape, layer, step in np.argwhere(layouts.space.possible).tolist():
        try:
            built.append(layouts.scenario(shape, layer, step))
        except SimulatorError:
            continue
    return built


def count_possible(scenario: Scenario) -> int:
    """Return how many layouts the search takes for possible before any of them is built."""
    return int(_layouts(scenario).space.possible.sum())


def bounded_layouts(scenario: Scenario) -> list[Bounded]:
    """Return the layouts that the search looks at, with their bounds."""
    layouts = _layouts(scenario)
    prices = Prices(layouts.system)
    rows = []
    for family in layouts.families:
        pairs = np.arange(len(family.shape))
        memory = memory_bound(layouts, family)
        near, placed = (
            time_bound(layouts, prices, family, pairs, with_topology=with_topology)
            for with_topology in (False, True)
        )
        possible = layouts.space.possible[family.shape, family.layer]
        for at in map(tuple, np.argwhere(possible).tolist()):
            shape, layer, step = int(family.shape[at[0]]), int(family.layer[at[0]]), at[1]
            try:
                layout = layouts.scenario(shape, layer, step)
            except SimulatorError:
                continue
            rows.append(Bounded(layout, float(memory[at]), float(near[at]), float(placed[at])))
    return rows


def file_layouts(scenario: Scenario) -> list[Scenario]:
    """Load every combination of the free settings as a scenario file with them; those that break no rule."""
    assert scenario.search is not None
    free = scenario.search.free
    content = {key: value for key, value in scenario.document.items() if key != "search"}
    loaded = []
    for values in itertools.product(*(free[path] or () for path in free)):
        overrides = [
            f"{path}={json.dumps(value)}"
            for path, value in zip(free, values, strict=True)
            if value is not None
        ]
        try:
            layout = files.from_document(content, "space", overrides)
        except SimulatorError:
            continue
        # The same objects for equal hardware: simulated together, and so quickly.
        loaded.append(
            replace(layout, model=scenario.model, cluster=scenario.cluster, software=scenario.software)
        )
    return loaded


def put(content: dict[str, Any], path: str, value: object) -> None:
    """Set a value by its dotted path."""
    *above, last = path.split(".")
    for part in above:
        content = content.setdefault(part, {})
    content[last] = value


def free_settings(
    draw: Random, values: Mapping[str, Sequence[object]], always: Mapping[str, int], most: int
) -> dict[str, list[object]]:
    """Draw a ``free:`` block.

    Args:
        draw: Source of random numbers.
        values: What each setting may be, by its short name, the usual value first.
        always: Settings that are always free, and how many values each has at least.
        most: Combinations at most.
    """
    size, free = 1, {}
    others = [name for name in values if name not in always]
    for name in (*always, *draw.sample(others, len(others))):
        choices = values[name]
        least = always.get(name, 1)
        chosen = draw.sample(choices, min(len(choices), draw.randint(least, max(least, 3))))
        if choices[0] not in chosen and draw.random() < USUAL_SHARE:
            chosen[0] = choices[0]
        if name in always or size * len(chosen) <= most:
            free[AXES[name]] = chosen
            size *= len(chosen)
    return free
