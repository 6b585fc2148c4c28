"""What each pipeline rank holds in memory, and whether it fits."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from simulator.workload.program import Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.engines.timeline import Timeline
    from simulator.workload.program import Floats

TERMS = (
    "framework",
    "weights",
    "gradients",
    "optimizer",
    "communication_buffers",
    "activations",
    "logits",
    "fragmentation",
)

PASSING = ("communication_buffers", "logits")
"""Terms besides activations that come and go within a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankMemory:
    """Bytes that one GPU of a pipeline rank holds at its peak, by term.

    Attributes:
        name: The pipeline rank, for example ``pp 3``.
        framework: CUDA context, communicators, workspaces of libraries.
        weights: Parameters in the format of computation.
        gradients: Gradients as accumulated and reduced.
        optimizer: Optimizer state and master weights.
        communication_buffers: Buffers of collectives and transfers.
        activations: Peak of what the backward passes still need.
        logits: Logits and the loss's working memory.
        fragmentation: Lost to the allocator.
        capacity_bytes: Memory of its GPU in a mixed cluster; None where all have the same.
    """

    name: str
    framework: float = 0.0
    weights: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    communication_buffers: float = 0.0
    activations: float = 0.0
    logits: float = 0.0
    fragmentation: float = 0.0
    capacity_bytes: float | None = None

    def terms(self) -> dict[str, float]:
        """Return bytes by term, in the order of ``TERMS``."""
        return {name: getattr(self, name) for name in TERMS}

    @property
    def total_bytes(self) -> float:
        """All terms together."""
        return sum(self.terms().values())

    def to_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        plain: dict[str, object] = {
            "name": self.name,
            "total_bytes": self.total_bytes,
            "terms_bytes": self.terms(),
        }
        return plain if self.capacity_bytes is None else plain | {"capacity_bytes": self.capacity_bytes}

    @property
    def largest_term(self) -> str:
        """The term that takes most."""
        terms = self.terms()
        return max(terms, key=terms.__getitem__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReport:
    """Peak memory of every pipeline rank against the GPU's capacity.

    Attributes:
        ranks: Pipeline ranks in order.
        capacity_bytes: Memory of one GPU; in a mixed cluster, of one that the worst rank runs on.
    """

    ranks: tuple[RankMemory, ...]
    capacity_bytes: float

    @property
    def worst(self) -> RankMemory:
        """The rank with the least room: the one that holds most, where all have the same capacity."""
        return max(self.ranks, key=lambda rank: rank.total_bytes - (rank.capacity_bytes or 0.0))

    @property
    def peak_bytes(self) -> float:
        """What the worst rank holds."""
        return self.worst.total_bytes

    @property
    def fits(self) -> bool:
        """Whether the worst rank fits."""
        return self.peak_bytes <= self.capacity_bytes

    def to_dict(self) -> dict[str, object]:
        """Return plain data for JSON: stable keys in a stable order."""
        return {
            "fits": self.fits,
            "capacity_bytes": self.capacity_bytes,
            "peak_bytes": self.peak_bytes,
            "worst_rank": self.worst.name,
            "largest_term": self.worst.largest_term,
            "breaking_term": self.breaking_term,
            "ranks": [rank.to_dict() for rank in self.ranks],
        }

    @property
    def breaking_term(self) -> str | None:
        """The first term of the worst rank, in the order of ``TERMS``, that no longer fits, if any."""
        terms = self.worst.terms()
        running = itertools.accumulate(terms.values())
        return next(
            (name for name, sum_ in zip(terms, running, strict=True) if sum_ > self.capacity_bytes), None
        )


def _events(timeline: Timeline, rank: int) -> tuple[Floats, Floats]:
    """Return the times and sizes of a rank's allocations and releases, in order.

    At one instant, ops that took time give back first; then ops start, and those of no duration end, in
    order of their number.
    """
    program = timeline.program
    allocated, freed = program.allocated_bytes, program.freed_bytes
    queues = [program.queue(rank, stream) for stream in Stream]
    changing = [queue[(allocated[queue] != 0) | (freed[queue] != 0)] for queue in queues]
    changing = [queue for queue in changing if queue.size]
    if len(changing) == 1:  # ops of one stream never overlap
        ops = changing[0]
        both = (timeline.start_s[ops], timeline.end_s[ops]), (allocated[ops], -freed[ops])
        times, sizes = (np.stack(pair, axis=1).reshape(-1) for pair in both)
        return times, sizes
    ops = np.sort(np.concatenate(changing)) if changing else np.zeros(0, dtype=np.int64)
    start, end = timeline.start_s[ops], timeline.end_s[ops]
    times = np.concatenate((start, end))
    sizes = np.concatenate((allocated[ops], -freed[ops]))
    ends = np.repeat((False, True), len(ops))
    gives_back_first = ends & np.tile(end > start, 2)
    order = np.lexsort((ends, np.tile(ops, 2), ~gives_back_first, times))
    return times[order], sizes[order]


def allocated_over_time(timeline: Timeline, rank: int) -> tuple[Floats, Floats]:
    """Return the activation memory of a rank as a staircase: times, and bytes held from each of them on."""
    times, sizes = _events(timeline, rank)
    return times, np.cumsum(sizes)


def activation_peaks(timeline: Timeline) -> tuple[Floats, Floats]:
    """Integrate allocations (at an op's start) and releases (at its end) over a step.

    Returns:
        By rank, the peak in bytes and what is left at the end: zero, for a schedule that gives all back.
    """
    program = timeline.program
    changing = np.flatnonzero((program.allocated_bytes != 0) | (program.freed_bytes != 0))
    if (program.stream[changing] == Stream.COMPUTE).all():  # in order, whenever they run
        ops = program.stream_ops(Stream.COMPUTE)
        sizes = np.stack((program.allocated_bytes[ops], -program.freed_bytes[ops]), axis=1).reshape(-1)
        ends = 2 * np.cumsum(np.bincount(program.rank[ops], minlength=program.num_ranks))
        held = [np.cumsum(part) for part in np.split(sizes, ends[:-1])]
    else:
        held = [allocated_over_time(timeline, rank)[1] for rank in range(program.num_ranks)]
    peak = np.asarray([values.max(initial=0.0) for values in held])
    final = np.asarray([values[-1] if len(values) else 0.0 for values in held])
    return peak, final


def memory_report(
    timeline: Timeline,
    static: Sequence[Mapping[str, float]],
    *,
    capacity_bytes: float | Sequence[float],
    fragmentation: float,
) -> MemoryReport:
    """Add the activation peak of a step to what each rank holds all the time.

    Args:
        timeline: The step.
        static: For each pipeline rank, bytes by term (of ``TERMS``, without activations and fragmentation).
        capacity_bytes: Memory of one GPU; by pipeline rank in a mixed cluster.
        fragmentation: Share of what comes and goes within a step that is lost to the allocator on top; what
            is there for good lies in blocks of its own.
    """
    peaks, _ = activation_peaks(timeline)
    ranks = []
    for name, terms, peak in zip(timeline.program.rank_names, static, peaks.tolist(), strict=True):
        passing = peak + sum(terms.get(term, 0.0) for term in PASSING)
        ranks.append(RankMemory(name=name, activations=peak, fragmentation=fragmentation * passing, **terms))
    if isinstance(capacity_bytes, int | float):
        return MemoryReport(ranks=tuple(ranks), capacity_bytes=capacity_bytes)
    ranks = [replace(rank, capacity_bytes=room) for rank, room in zip(ranks, capacity_bytes, strict=True)]
    mixed = MemoryReport(ranks=tuple(ranks), capacity_bytes=0.0)
    return replace(mixed, capacity_bytes=mixed.worst.capacity_bytes or 0.0)
