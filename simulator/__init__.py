"""Simulate the training of large models before anyone rents a GPU.

The arrow that rules the folders: scenario -> program -> durations -> timeline -> metrics -> report.

    load              read a scenario file
    simulate          simulate one training step of a scenario
    estimate_memory   what each GPU holds, without timing anything
    sweep             simulate every point of a scenario's sweep
    search            find the best layout
    validate          compare predictions with published runs
    save_trace        write a result's timeline for ui.perfetto.dev
    save_timeline     draw a result's pipeline
    save_curve        draw a sweep's curve, or what a search found
    Scenario          what the user asks for
    Result            what a simulation says
    SimulatorError    base of every error raised on purpose
    ScenarioError     all problems of a wrong scenario, each with its place
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.api import estimate_memory, simulate
    from simulator.errors import ScenarioError, SimulatorError
    from simulator.explore.search import search
    from simulator.explore.sweep import sweep
    from simulator.files.load import load
    from simulator.reports.save import save_curve, save_timeline, save_trace
    from simulator.results.result import Result
    from simulator.scenario import Scenario
    from simulator.validation import validate

_HOMES = {
    "Result": "simulator.results.result",
    "Scenario": "simulator.scenario",
    "ScenarioError": "simulator.errors",
    "SimulatorError": "simulator.errors",
    "estimate_memory": "simulator.api",
    "load": "simulator.files",
    "save_curve": "simulator.reports.save",
    "save_timeline": "simulator.reports.save",
    "save_trace": "simulator.reports.save",
    "search": "simulator.explore.search",
    "simulate": "simulator.api",
    "sweep": "simulator.explore",
    "validate": "simulator.validation",
}

__all__ = [
    "Result",
    "Scenario",
    "ScenarioError",
    "SimulatorError",
    "estimate_memory",
    "load",
    "save_curve",
    "save_timeline",
    "save_trace",
    "search",
    "simulate",
    "sweep",
    "validate",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that ``simulator --help`` need not wait for numpy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'simulator' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
