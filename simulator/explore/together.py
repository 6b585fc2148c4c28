"""Configurations of one structure, evaluated side by side by the compiled engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simulator.explore.configurations import TERMS, Configuration, chunks
from simulator.explore.part_costs import ALLOCATED, FREED, MATRIX_SECONDS, SECONDS
from simulator.results.memory import PASSING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.explore.templates import Template
    from simulator.workload.program import Floats

_CHUNK_BYTES = 32e6
"""Ends of ops that are kept at a time."""


class Row(NamedTuple):
    """What becomes of one scenario; see ``Evaluations``."""

    step_time_s: float
    tokens_per_s: float
    peak_memory_bytes: float
    capacity_bytes: float


def run_together(configurations: Sequence[Configuration]) -> Floats:
    """Return a column for each configuration, rows as in ``Row``; all have the same template."""
    return np.concatenate([_run(chunk) for chunk in chunks(configurations, _CHUNK_BYTES)], axis=1)


def _run(configurations: Sequence[Configuration]) -> Floats:
    template = configurations[0].template
    costs = np.stack([each.costs for each in configurations], axis=2)
    scenarios = [each.scenario for each in configurations]
    step_time_s = _step_times(template, costs)
    tokens = np.array([scenario.tokens_per_step for scenario in scenarios])
    capacity = np.array([scenario.cluster.gpu.memory_bytes for scenario in scenarios])
    summed = np.stack([each.summed for each in configurations], axis=1)
    held, raised = _peaks(template, costs, summed)
    terms = np.stack([each.static for each in configurations], axis=2)
    terms[:, TERMS.index("gradients")] += raised
    passing = held + terms[:, [TERMS.index(term) for term in PASSING]].sum(axis=1)
    fragmentation = np.array([scenario.software.memory_fragmentation for scenario in scenarios])
    total = terms.sum(axis=1) + held + fragmentation * passing
    return np.stack((step_time_s, tokens / step_time_s, total.max(axis=0), capacity))


def _step_times(template: Template, costs: Floats) -> Floats:
    """Return the seconds of a step: first alone, then with what passes lose to collectives beside them."""
    from simulator.engines import loops  # noqa: PLC0415  numba is slow to import

    graph, order = template.graph, template.order
    seconds = costs[SECONDS][template.slot]
    nodes = graph.node[graph.joined]
    np.maximum.at(seconds, nodes, seconds[graph.joined])
    seconds[graph.joined] = seconds[nodes]
    ends = order.ends(seconds)
    if template.beside.size:
        ends[graph.joined] = ends[nodes]
        longer = seconds.copy()
        loops.lose_time(
            template.pass_start,
            template.passes,
            template.beside_start,
            template.beside,
            template.slot,
            costs[MATRIX_SECONDS],
            ends,
            seconds,
            longer,
        )
        ends = order.ends(longer)
    makespan: Floats = ends.max(axis=0)
    return makespan


def _peaks(template: Template, costs: Floats, summed: Floats) -> tuple[Floats, Floats]:
    """Return by rank the peak of activations, and by how much gradients raise it."""
    from simulator.engines import loops  # noqa: PLC0415  numba is slow to import

    peak, both = np.zeros((2, len(template.held), costs.shape[2]))
    loops.hold_memory(
        template.pass_start,
        template.passes,
        template.slot,
        template.opens,
        template.closes,
        costs[ALLOCATED],
        costs[FREED],
        summed,
        peak,
        both,
    )
    return peak, both - peak
