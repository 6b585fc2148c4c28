"""Data parallelism beside the pipeline: which passes wait for weights, and which send gradients off.

A strategy cuts a pass into segments where its collectives hook in. ``bucketed`` keeps whole weights on every
rank, ``fully_sharded`` gathers them layer by layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from simulator.workload.op_kind import OpKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.scenario import Scenario
    from simulator.workload.gradients import Bucket
    from simulator.workload.program import Bools, ProgramBuilder
    from simulator.workload.schedules import Action
    from simulator.workload.schedules.columns import Passes
    from simulator.workload.stages import LayerWork, Stage

MAKES_GRADIENTS = (OpKind.BACKWARD, OpKind.BACKWARD_WEIGHT)
"""Passes after which a micro-batch's weight gradients are complete."""
NEEDS_WEIGHTS = (OpKind.FORWARD, OpKind.BACKWARD, OpKind.BACKWARD_INPUT)
"""Passes that multiply by weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a pass that runs as one op.

    Attributes:
        works: Its layers, in model order.
        number: Its bucket, -1 for a whole pass.
        gathers: Bucket whose weights it needs gathered for itself, or None.
        reduces: Buckets whose gradients are complete, and sent off, when it ends.
    """

    works: tuple[LayerWork, ...]
    number: int = -1
    gathers: Bucket | None = None
    reduces: tuple[Bucket, ...] = ()


@dataclass(slots=True, kw_only=True)
class DataParallel:
    """Appends the gathers and reductions of one step; without a strategy there are none.

    Attributes:
        scenario: The request.
        stages: Its pipeline stages.
        builder: Where ops are appended.
        order: Passes of each rank in their order.
        parts: Buckets or units of each stage; empty: those of the scenario.
        reduced: Ops that reduce gradients, by rank.
        edges: First forward pass and last pass that makes gradients of each stage, by rank.
        edge_places: Their places in the rank's order.
    """

    scenario: Scenario
    stages: tuple[Stage, ...]
    builder: ProgramBuilder
    order: Sequence[Passes]
    parts: list[list[Bucket]] = field(default_factory=list)
    reduced: dict[int, list[int]] = field(init=False)
    edges: Mapping[int, frozenset[Action]] = field(init=False)
    edge_places: Mapping[int, frozenset[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.reduced = {rank: [] for rank in range(len(self.order))}
        self.edge_places = {rank: _edges(passes) for rank, passes in enumerate(self.order)}
        self.edges = {
            rank: frozenset(self.order[rank][place] for place in places)
            for rank, places in self.edge_places.items()
        }
        self.prepare()

    def prepare(self) -> None:
        """Lay out what the strategy needs before the first pass."""

    def untouched(self, rank: int) -> Bools:
        """Tell which passes of a rank run whole, wait for nothing of the strategy's and start nothing."""
        return np.ones(len(self.order[rank]), dtype=np.bool_)

    def segments(self, rank: int, action: Action) -> Sequence[Segment]:
        """Cut a pass into the parts that run as one op each, in the order in which they run."""
        del rank
        return [Segment(works=self.stages[action.stage].works)]

    def before(self, rank: int, action: Action, segment: Segment) -> tuple[int, ...]:
        """Append what must come before a segment and return the ops that it waits for."""
        del rank, action, segment
        return ()

    def after(self, rank: int, action: Action, segment: Segment, op: int) -> None:
        """Append what follows a segment that runs as op ``op``."""

    def finish(self, rank: int, last: int) -> None:
        """Append what follows a rank's last pass."""

    def sends_gradients(self, rank: int, action: Action) -> bool:
        """Tell whether gradients are reduced after a pass, rather than summed up with those of later ones."""
        if action.kind not in MAKES_GRADIENTS:
            return False
        return self.scenario.parallelism.reduce_every_microbatch or action in self.edges[rank]

    def held_stages(self, rank: int) -> list[int]:
        """Return the stages of a rank in model order."""
        held: list[int] = np.flatnonzero(np.bincount(self.order[rank].stage)).tolist()
        return held


def _edges(passes: Passes) -> frozenset[int]:
    """Return the places of the first forward pass and the last one that makes gradients, of each stage."""
    forward = np.flatnonzero(passes.kind == OpKind.FORWARD)[::-1]
    makes = np.flatnonzero(np.logical_or.reduce([passes.kind == kind for kind in MAKES_GRADIENTS]))
    edges: set[int] = set()
    for places in (forward, makes):
        latest = np.full(1 + int(passes.stage.max(initial=0)), -1)
        latest[passes.stage[places]] = places  # of several the last one stays
        edges.update(latest[latest >= 0].tolist())
    return frozenset(edges)
