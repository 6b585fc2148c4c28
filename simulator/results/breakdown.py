"""Where the time of a step goes; the parts sum to the step time exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.errors import SimulationError
from simulator.results.waiting import (
    BUBBLE,
    CATEGORIES,
    COMPUTE,
    OPTIMIZER,
    OVERHEAD,
    communication_categories,
    waiting_seconds,
)
from simulator.workload.program import Floats, Ints, OpKind, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.engines.timeline import Timeline

_TOLERANCE = 1e-9
_NUMBER = {name: number for number, name in enumerate(CATEGORIES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """Seconds of a step by what the compute stream does or waits for.

    Attributes:
        compute: Kernels of forward and backward passes.
        exposed_tp: Waiting for tensor-parallel communication.
        exposed_cp: Waiting for context-parallel communication.
        exposed_ep: Waiting for the all-to-all among experts.
        exposed_pp: Waiting for a pipeline transfer in flight.
        bubble: Idle because other pipeline stages have not delivered, or after the rank's last work.
        exposed_dp: Waiting for gradient reduction or parameter gathering.
        exposed_offload: Waiting for copies to and from host memory, or for the host's optimizer.
        optimizer: The optimizer step.
        overhead: Fixed costs of the software stack.
    """

    compute: float
    exposed_tp: float
    exposed_cp: float
    exposed_ep: float
    exposed_pp: float
    bubble: float
    exposed_dp: float
    exposed_offload: float
    optimizer: float
    overhead: float

    @classmethod
    def of(cls, seconds: Sequence[float], total_s: float) -> Breakdown:
        """Build a breakdown of ``total_s``; the bubble is what the other categories leave.

        Args:
            seconds: Seconds in the order of ``CATEGORIES``; the bubble's entry is not read.
            total_s: What all categories sum to.

        Raises:
            SimulationError: The other categories exceed the total: ops of one stream overlap.

        >>> Breakdown.of([0.7, 0, 0, 0, 0.1, 0, 0, 0, 0, 0], 1.0).bubble.__round__(12)
        0.2
        """
        parts = [float(value) for value in seconds]
        parts[BUBBLE] = 0.0
        remainder = math.fsum([total_s, *(-value for value in parts)])
        if remainder < -_TOLERANCE * total_s:
            raise SimulationError(f"categories exceed the step time of {total_s} s by {-remainder} s")
        if remainder < 0:
            parts[parts.index(max(parts))] += remainder
            remainder = 0.0
        parts[BUBBLE] = remainder
        return cls(**dict(zip(CATEGORIES, parts, strict=True)))

    def as_dict(self) -> dict[str, float]:
        """Return seconds by category, in the order of ``CATEGORIES``."""
        return {name: getattr(self, name) for name in CATEGORIES}

    @property
    def total_s(self) -> float:
        """The step time."""
        return math.fsum(self.as_dict().values())

    @property
    def exposed_s(self) -> float:
        """Seconds that communication of any axis is waited for."""
        return math.fsum(value for name, value in self.as_dict().items() if name.startswith("exposed"))


def _share_rows(works: int, shares: Mapping[int, Mapping[str, float]]) -> Floats:
    """Return the fractions by category of each piece of work; without shares all of it is compute."""
    rows = np.zeros((works, len(CATEGORIES)))
    rows[:, COMPUTE] = 1.0
    for work, parts in shares.items():
        total = math.fsum(parts.values())
        if total > 0:
            rows[work, COMPUTE] = 0.0
            for name, seconds in parts.items():
                rows[work, _NUMBER[name]] = seconds / total
    return rows


def _busy_seconds(
    timeline: Timeline, communication: Ints, shares: Mapping[int, Mapping[str, float]]
) -> Floats:
    """Return, by rank and category, the seconds during which the compute stream is busy."""
    program = timeline.program
    works = len(program.works)
    rows = np.vstack((_share_rows(works, shares), np.eye(len(CATEGORIES))))
    ops = program.stream_ops(Stream.COMPUTE)
    category, kind = communication[ops], program.kind[ops]
    row = np.where(category >= 0, works + category, program.work[ops])
    row[kind == OpKind.OPTIMIZER] = works + OPTIMIZER
    row[kind == OpKind.OVERHEAD] = works + OVERHEAD
    slot = program.rank[ops] * len(rows) + row
    durations = timeline.end_s[ops] - timeline.start_s[ops]
    seconds = np.bincount(slot, durations, program.num_ranks * len(rows)).astype(np.float64)
    busy: Floats = seconds.reshape(program.num_ranks, len(rows)) @ rows
    return busy


def _category_seconds(
    timeline: Timeline, shares: Mapping[int, Mapping[str, float]], *, tail_transfers: bool
) -> Floats:
    """Return, by rank and category, what the compute stream does and waits for; see ``waiting_seconds``."""
    category = communication_categories(timeline.program)
    waiting = waiting_seconds(timeline, category, tail_transfers=tail_transfers)
    return _busy_seconds(timeline, category, shares) + waiting


def step_breakdown(
    timeline: Timeline, shares: Mapping[int, Mapping[str, float]]
) -> tuple[Breakdown, tuple[Breakdown, ...]]:
    """Break a step down by what each rank's compute stream does or waits for.

    An idle gap counts as exposed communication while communication that the next op depends on, directly or
    through further communication, is in flight on whichever rank; the rest is bubble. The idle time after a
    rank's last op is bubble too, save while a collective of the rank is in flight.

    Args:
        timeline: The step.
        shares: By work (index into ``program.works``) its seconds by category; they are scaled to each op's
            actual duration. Work without an entry is all compute.

    Returns:
        The mean over pipeline ranks, and the breakdown of each rank.
    """
    total_s = timeline.makespan_s
    seconds = _category_seconds(timeline, shares, tail_transfers=False)
    per_rank = tuple(Breakdown.of(row, total_s) for row in seconds.tolist())
    means = [math.fsum(getattr(rank, name) for rank in per_rank) / len(per_rank) for name in CATEGORIES]
    return Breakdown.of(means, total_s), per_rank


def block_shares(timeline: Timeline) -> dict[str, float]:
    """Break one layer down: kernels are compute, gaps are exposed communication of the axis waited for.

    Args:
        timeline: A layer's own program, on one rank.

    Returns:
        Seconds by category, zeros left out; they sum to the makespan.
    """
    seconds = _category_seconds(timeline, {}, tail_transfers=True)
    parts = Breakdown.of(seconds[0].tolist(), timeline.makespan_s).as_dict()
    # Nothing else can hold up a single rank's compute stream than a kernel on another of its streams.
    del parts["bubble"]
    parts["compute"] = 0.0
    parts["compute"] = math.fsum([timeline.makespan_s, *(-value for value in parts.values())])
    return {name: value for name, value in parts.items() if value > 0}
