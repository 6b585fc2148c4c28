"""Configurations of one structure, evaluated side by side by the compiled engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simulator.batch.configuration import TERMS, Configuration
from simulator.durations.slot_table import SHARE
from simulator.engines import compiled
from simulator.results.memory import PASSING
from simulator.workload.step.pass_bytes import ALLOCATED, FREED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from simulator.workload.program import Floats
    from simulator.workload.step.structure import Structure

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
    ops = configurations[0].structure.program.num_ops
    size = max(1, min(_MOST, int(_CHUNK_BYTES / 8 / ops)))
    return (configurations[first : first + size] for first in range(0, len(configurations), size))


def _run(configurations: Sequence[Configuration]) -> Floats:
    structure = configurations[0].structure
    scenarios = [each.scenario for each in configurations]
    step_time_s = _step_times(structure, configurations)
    tokens = np.array([scenario.tokens_per_step for scenario in scenarios])
    capacity = np.array([scenario.cluster.gpu.memory_bytes for scenario in scenarios])
    summed = np.array([each.summed for each in configurations]).T[structure.stage_kind]
    sizes = np.stack([each.bytes for each in configurations], axis=2)
    held, raised = _peaks(structure, sizes, summed)
    terms = np.moveaxis(np.array([each.static for each in configurations]), 0, 2)[structure.rank_kind]
    terms[:, TERMS.index("gradients")] += raised
    passing = held + terms[:, [TERMS.index(term) for term in PASSING]].sum(axis=1)
    fragmentation = np.array([scenario.software.memory_fragmentation for scenario in scenarios])
    total = terms.sum(axis=1) + held + fragmentation * passing
    return np.stack((step_time_s, tokens / step_time_s, total.max(axis=0), capacity))


def _step_times(structure: Structure, configurations: Sequence[Configuration]) -> Floats:
    """Return the seconds of a step: first alone, then with what passes lose to collectives beside them."""
    from simulator.engines import loops  # noqa: PLC0415  numba is slow to import

    program, queues = structure.program, structure.layout.queues
    share = np.stack([each.costs[SHARE] for each in configurations], axis=1)  # [slot, scenario]
    seconds = np.stack([each.seconds() for each in configurations], axis=1)[structure.slot]  # [op, scenario]
    ends = compiled.run_batch(program, seconds)
    if queues.collectives.size:
        longer = seconds.copy()
        loops.add_contention_batch(
            queues.pass_start,
            queues.passes,
            queues.collective_start,
            queues.collectives,
            structure.slot,
            share,
            ends,
            seconds,
            longer,
        )
        ends = compiled.run_batch(program, longer)
    makespan: Floats = ends[compiled.last_ops(program)].max(axis=0)
    return makespan


def _peaks(structure: Structure, sizes: Floats, summed: Floats) -> tuple[Floats, Floats]:
    """Return by rank the peak of activations, and by how much gradients raise it."""
    from simulator.engines import loops  # noqa: PLC0415  numba is slow to import

    queues = structure.layout.queues
    peak, both = np.zeros((2, structure.program.num_ranks, sizes.shape[2]))
    loops.hold_memory(
        queues.pass_start,
        queues.passes,
        structure.slot,
        queues.opens,
        queues.closes,
        sizes[ALLOCATED],
        sizes[FREED],
        summed,
        peak,
        both,
    )
    return peak, both - peak
