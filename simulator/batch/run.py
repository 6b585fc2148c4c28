"""Configurations of one structure, evaluated side by side by the compiled engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simulator.batch.configuration import TERMS, Configuration
from simulator.durations.slot_table import FIXED_S, NETWORK_BYTES, SHARE
from simulator.engines import compiled
from simulator.engines.jit import compiled_loops
from simulator.results.memory import PASSING
from simulator.workload.step.pass_bytes import ALLOCATED, FREED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from simulator.workload.program import Floats, Ints
    from simulator.workload.step.structure import Structure

_CHUNK_BYTES = 32e6
"""Ends of ops that are kept at a time."""
_MOST = 64
"""Configurations evaluated at a time."""
_GRADIENTS = TERMS.index("gradients")
_PASSING = [TERMS.index(term) for term in PASSING]


class Row(NamedTuple):
    """The outcome of one scenario; see ``Evaluations``."""

    step_time_s: float
    least_s: float
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
    """Return the rows of ``Row`` for configurations of one structure, [row, scenario].

    costs    [seconds, network bytes, SM share] x slot x scenario
    sizes    [allocated, freed] x slot x scenario
    summed   stage x scenario      whole gradients that exist while they are summed up
    terms    rank x TERMS x scenario      what ranks hold besides activations
    held     rank x scenario       peak of activations; ``raised``: what gradients add to it
    """
    structure = configurations[0].structure
    scenarios = [configuration.scenario for configuration in configurations]
    costs = np.stack([configuration.costs for configuration in configurations], axis=2)
    step_time_s, least_s = _step_times(
        structure,
        costs,
        np.array([scenario.cluster.network.bytes_per_s_per_gpu for scenario in scenarios]),
    )
    tokens = np.array([scenario.tokens_per_step for scenario in scenarios])
    capacity = np.array([scenario.cluster.gpu.memory_bytes for scenario in scenarios])
    summed = np.stack([configuration.summed for configuration in configurations], axis=1)[
        structure.stage_kind
    ]
    sizes = np.stack([configuration.bytes for configuration in configurations], axis=2)
    held, raised = _peaks(structure, sizes, summed)
    terms = np.stack([configuration.static for configuration in configurations], axis=2)[structure.rank_kind]
    terms[:, _GRADIENTS] += raised
    passing = held + terms[:, _PASSING].sum(axis=1)
    fragmentation = np.array([scenario.software.memory_fragmentation for scenario in scenarios])
    total = terms.sum(axis=1) + held + fragmentation * passing
    return np.stack((step_time_s, least_s, tokens / step_time_s, total.max(axis=0), capacity))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tables:
    """Where the seconds of a structure's ops stand.

    Attributes:
        by_slot: In a table by slot.
        by_pass: In that table with its joins, followed by a row for every pass.
        passes: [pass] Row of each pass in the first of these.
    """

    by_slot: compiled.Rows
    by_pass: compiled.Rows
    passes: Ints

    @classmethod
    def of(cls, structure: Structure) -> _Tables:
        """Return those of a structure; found once."""
        tables = structure.derived.get("tables")
        if not isinstance(tables, cls):
            program, passes = structure.program, structure.layout.queues.passes
            by_slot = compiled.Rows.of(program, structure.slot, structure.arrangement.slots.size)
            first = structure.arrangement.slots.size + len(by_slot.start)
            row = by_slot.of_op.copy()
            row[passes] = first + np.arange(len(passes))
            by_pass = compiled.Rows.of(program, row, first + len(passes))
            tables = cls(by_slot=by_slot, by_pass=by_pass, passes=by_slot.of_op[passes])
            structure.derived["tables"] = tables
        return tables


def _step_times(structure: Structure, costs: Floats, bytes_per_s: Floats) -> tuple[Floats, Floats]:
    """Return the seconds of a step with what passes lose to collectives beside them, and without.

    Args:
        structure: The step.
        costs: [FIXED_S, NETWORK_BYTES or SHARE, slot, scenario]
        bytes_per_s: [scenario] Bandwidth of a GPU's share of the network.
    """
    program, queues, tables = structure.program, structure.layout.queues, _Tables.of(structure)
    seconds = tables.by_slot.with_joins(costs[FIXED_S] + costs[NETWORK_BYTES] / bytes_per_s)
    ends = compiled.run_batch(program, seconds, tables.by_slot)
    last = compiled.last_ops(program)
    least_s: Floats = ends[last].max(axis=0)
    if queues.collectives.size:
        lost = np.zeros((len(queues.passes), seconds.shape[1]))
        compiled_loops().add_contention_batch(
            queues.pass_start,
            queues.passes,
            queues.collective_start,
            queues.collectives,
            structure.slot,
            costs[SHARE],
            tables.by_slot.of_op,
            seconds,
            ends,
            lost,
        )
        longer = tables.by_pass.with_joins(np.concatenate((seconds, seconds[tables.passes] + lost)))
        ends = compiled.run_batch(program, longer, tables.by_pass)
    return ends[last].max(axis=0), least_s


def _peaks(structure: Structure, sizes: Floats, summed: Floats) -> tuple[Floats, Floats]:
    """Return by rank the peak of activations, and by how much gradients raise it."""
    queues = structure.layout.queues
    peak, both = np.zeros((2, structure.program.num_ranks, sizes.shape[2]))
    compiled_loops().peak_memory(
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
