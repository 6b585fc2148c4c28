"""Configurations of one structure, evaluated side by side by the compiled engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simulator.batch.configuration import TERMS, Configuration
from simulator.durations.stage_passes import ALLOCATED, FREED, SECONDS, SHARE
from simulator.engines import compiled
from simulator.results.memory import PASSING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from simulator.batch.structure import Structure
    from simulator.workload.program import Floats

_CHUNK_BYTES = 32e6
"""Ends of ops that are kept at a time."""
_MOST = 64
"""Configurations evaluated at a time."""


class Row(NamedTuple):
    """What becomes of one scenario; see ``Evaluations``."""

    step_time_s: float
    tokens_per_s: float
    peak_memory_bytes: float
    capacity_bytes: float


def run_together(configurations: Sequence[Configuration]) -> Floats:
    """Return a column for each configuration, rows as in ``Row``; all have the same structure."""
    return np.concatenate([_run(chunk) for chunk in _chunks(configurations)], axis=1)


def _chunks(configurations: Sequence[Configuration]) -> Iterator[Sequence[Configuration]]:
    ops = configurations[0].structure.template.program.num_ops
    size = max(1, min(_MOST, int(_CHUNK_BYTES / 8 / ops)))
    return (configurations[first : first + size] for first in range(0, len(configurations), size))


def _run(configurations: Sequence[Configuration]) -> Floats:
    structure = configurations[0].structure
    costs = np.stack([each.costs for each in configurations], axis=2)
    scenarios = [each.scenario for each in configurations]
    step_time_s = _step_times(structure, costs)
    tokens = np.array([scenario.tokens_per_step for scenario in scenarios])
    capacity = np.array([scenario.cluster.gpu.memory_bytes for scenario in scenarios])
    summed = np.array([each.summed for each in configurations]).T[structure.which]
    held, raised = _peaks(structure, costs, summed)
    terms = np.moveaxis(np.array([each.static for each in configurations]), 0, 2)[structure.rank]
    terms[:, TERMS.index("gradients")] += raised
    passing = held + terms[:, [TERMS.index(term) for term in PASSING]].sum(axis=1)
    fragmentation = np.array([scenario.software.memory_fragmentation for scenario in scenarios])
    total = terms.sum(axis=1) + held + fragmentation * passing
    return np.stack((step_time_s, tokens / step_time_s, total.max(axis=0), capacity))


def _step_times(structure: Structure, costs: Floats) -> Floats:
    """Return the seconds of a step: first alone, then with what passes lose to collectives beside them."""
    from simulator.engines import loops  # noqa: PLC0415  numba is slow to import

    template = structure.template
    seconds = costs[SECONDS][structure.slot]
    ends = compiled.run_batch(template.program, seconds)
    if template.beside.size:
        longer = seconds.copy()
        loops.lose_time(
            template.pass_start,
            template.passes,
            template.beside_start,
            template.beside,
            structure.slot,
            costs[SHARE],
            ends,
            seconds,
            longer,
        )
        ends = compiled.run_batch(template.program, longer)
    makespan: Floats = ends[template.last].max(axis=0)
    return makespan


def _peaks(structure: Structure, costs: Floats, summed: Floats) -> tuple[Floats, Floats]:
    """Return by rank the peak of activations, and by how much gradients raise it."""
    from simulator.engines import loops  # noqa: PLC0415  numba is slow to import

    template = structure.template
    peak, both = np.zeros((2, len(template.held), costs.shape[2]))
    loops.hold_memory(
        template.pass_start,
        template.passes,
        structure.slot,
        template.opens,
        template.closes,
        costs[ALLOCATED],
        costs[FREED],
        summed,
        peak,
        both,
    )
    return peak, both - peak
