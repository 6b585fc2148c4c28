"""Settings of a file that a search or a Monte Carlo run does not use, where one step would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from simulator.files.searches import DP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.scenario import Scenario, Search

_ENGINE = (
    "simulation.engine has no effect: {} the compiled engine, which leaves out that transfers share links"
)


def unused_by_search(scenario: Scenario, search: Search) -> Iterator[str]:
    """Yield a warning for each setting of the file that changes nothing about its search."""
    yield from (text for text in scenario.warnings if text.startswith("simulation."))
    if _given(scenario.document, "simulation", "engine") == "event":
        yield _ENGINE.format("a search uses")
    dp = _given(scenario.document, "parallelism", "dp")
    if DP in search.free and dp not in {None, "auto"}:
        yield f"{DP} = {dp} has no effect: it follows from what the search chooses; search.fix: [dp] keeps it"


def unused_by_montecarlo(scenario: Scenario, steps: int) -> Iterator[str]:
    """Yield a warning for each setting, and for the number of steps, that changes nothing about a run."""
    yield from (text for text in scenario.warnings if not text.startswith("simulation."))
    if _given(scenario.document, "simulation", "engine") == "event":
        yield _ENGINE.format("Monte Carlo uses")
    noise = scenario.noise
    if noise.expert_imbalance and scenario.model.experts is None:
        yield "simulation.noise.expert_imbalance has no effect: the model has no experts"
    for number, each in enumerate(noise.stragglers):
        if each.slowdown == each.bandwidth == 1.0:
            yield f"simulation.noise.stragglers.{number} has no effect: no slowdown, no bandwidth"
    wavers = noise.kernel_jitter or (noise.expert_imbalance and scenario.model.experts is not None)
    if steps > 1 and not wavers:
        yield f"all {steps:,} steps are the same: no kernel_jitter in simulation.noise makes them differ"


def _given(document: Mapping[str, object], section: str, name: str) -> object:
    """Return a setting as the file gives it; None where it leaves it out."""
    content = document.get(section)
    return content.get(name) if isinstance(content, Mapping) else None
