"""What the simulator would say of a source whose runs its constants have never seen."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from simulator.documents import parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.scenario import Scenario

_FILE = "leave_one_out.yaml"


def without_source(scenario: Scenario, source: str) -> Scenario:
    """Return a scenario whose fitted training constants are those of a fit without a source's runs.

    Kernel and collective fits stay: they are made from measurements of their own. So do the habits of stacks
    and the physics, which people chose who could see the rows.
    """
    fitted = fits_without().get(source, {})
    gpu, software = scenario.cluster.gpu, scenario.software
    clocks = fitted.get("gpus", {}).get(gpu.name)
    of_stack = fitted.get("stacks", {}).get(software.name)
    if clocks:
        gpu = replace(gpu, training_clock={**gpu.training_clock, **clocks})
    if of_stack:
        software = replace(software, **of_stack)
    return replace(scenario, cluster=replace(scenario.cluster, gpu=gpu), software=software)


@lru_cache(maxsize=1)
def fits_without() -> Mapping[str, Any]:
    """Return the constants of each fit without one source, by the source that it has not seen."""
    text = (files("simulator.catalogue") / "fitted" / _FILE).read_text("utf-8")
    data: Any = parse(text, f"fitted/{_FILE}").data
    return dict(data or {})
