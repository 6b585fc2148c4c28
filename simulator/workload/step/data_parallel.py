"""Data parallelism beside the pipeline: which passes wait for weights, and which send gradients off.

A strategy cuts a pass into segments where its collectives hook in. ``bucketed`` keeps whole weights on every
rank, ``fully_sharded`` gathers them layer by layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from simulator.schedules.columns import Passes
from simulator.schedules.op_kind import OpKind
from simulator.workload.parameters.buckets import bucket_collectives
from simulator.workload.step.stages import alike_stages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.schedules import Action
    from simulator.workload.layers.layer_work import LayerWork
    from simulator.workload.parameters.buckets import BucketSpan
    from simulator.workload.parameters.model_states import ModelStates
    from simulator.workload.program import Ints, ProgramBuilder
    from simulator.workload.step.pieces import Pieces
    from simulator.workload.step.stages import Stage
    from simulator.workload.work import Collective

MAKES_GRADIENTS = (OpKind.BACKWARD, OpKind.BACKWARD_WEIGHT)
"""Passes after which a micro-batch's weight gradients are complete."""
NEEDS_WEIGHTS = (OpKind.FORWARD, OpKind.BACKWARD, OpKind.BACKWARD_INPUT)
"""Passes that multiply by weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Consecutive layers of a stage whose gradients travel together.

    Attributes:
        works: The layers' work, in model order.
        parameters: How many parameters these layers have on one rank.
        reduces: Collectives that sum their gradients; empty without data parallelism.
        sums: Collectives that then sum shards of gradients over replicas of the shard group.
        gathers: Collectives that gather their weights; empty unless these are sharded.
    """

    works: tuple[LayerWork, ...]
    parameters: float
    reduces: tuple[Collective, ...]
    sums: tuple[Collective, ...]
    gathers: tuple[Collective, ...]


def buckets_of(states: ModelStates, stages: Sequence[Stage]) -> list[list[Bucket]]:
    """Divide each stage into buckets of whole layers, or into FSDP's units; see ``ModelStates.parts``."""
    return [[_bucket(states, stage, part) for part in states.parts(stage.outline)] for stage in stages]


def _bucket(states: ModelStates, stage: Stage, part: BucketSpan) -> Bucket:
    collectives = bucket_collectives(
        part.parameters, part.end - part.first, states.sharding, states.sizes, states.buckets
    )
    return Bucket(
        works=stage.works[part.first : part.end],
        parameters=part.parameters.total,
        reduces=collectives.reduces,
        sums=collectives.sums,
        gathers=collectives.gathers,
    )


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
        passes: Passes of all ranks, one rank behind the other.
        first: Where the passes of each rank begin among them, and where the last one's end.
        alike: First stage with the same works as each stage.
        edge_places: Places among them of the first forward pass and of the last pass that makes gradients of
            each stage on each rank.
    """

    scenario: Scenario
    stages: tuple[Stage, ...]
    builder: ProgramBuilder
    order: Sequence[Passes]
    parts: list[list[Bucket]] = field(default_factory=list)
    reduced: dict[int, list[int]] = field(init=False)
    passes: Passes = field(init=False)
    first: Ints = field(init=False)
    alike: Ints = field(init=False)
    edge_places: Ints = field(init=False)
    _edges: dict[int, frozenset[Action]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reduced = {rank: [] for rank in range(len(self.order))}
        self.passes = Passes.joined(*self.order)
        self.first = np.concatenate(([0], np.cumsum([len(passes) for passes in self.order])))
        self.alike = alike_stages(self.stages)
        self.edge_places = self._edge_places()
        self.prepare()

    def prepare(self) -> None:
        """Lay out what the strategy needs before the first pass."""

    def pieces(self) -> Pieces | None:
        """Return what all passes run as, or None where that is found out pass by pass."""
        return None

    def waits(self, pieces: Pieces) -> Ints:
        """Return parts of passes (first row) and the ops, appended before, which they wait for."""
        del pieces
        return np.zeros((2, 0), dtype=np.int64)

    def bucket_works(self, stage: int, number: int) -> tuple[LayerWork, ...]:
        """Return the layers of a bucket that passes are cut into."""
        return self.parts[stage][number].works

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

    def is_edge(self, rank: int, action: Action) -> bool:
        """Tell whether a pass is its stage's first forward pass, or the last that makes its gradients."""
        if rank not in self._edges:
            begin, end = np.searchsorted(self.edge_places, self.first[rank : rank + 2])
            self._edges[rank] = frozenset(self.passes.taken(self.edge_places[begin:end]))
        return action in self._edges[rank]

    def sends_gradients(self, rank: int, action: Action) -> bool:
        """Tell whether gradients are reduced after a pass, rather than summed up with those of later ones."""
        if action.kind not in MAKES_GRADIENTS:
            return False
        return self.scenario.parallelism.reduce_every_microbatch or self.is_edge(rank, action)

    def held_stages(self, rank: int) -> list[int]:
        """Return the stages of a rank in model order."""
        held: list[int] = np.flatnonzero(np.bincount(self.order[rank].stage)).tolist()
        return held

    def _edge_places(self) -> Ints:
        rank = np.repeat(np.arange(len(self.order)), np.diff(self.first))
        holder = rank * len(self.stages) + self.passes.stage
        forward = np.flatnonzero(self.passes.kind == OpKind.FORWARD)[::-1]
        makes = np.flatnonzero(np.logical_or.reduce([self.passes.kind == kind for kind in MAKES_GRADIENTS]))
        latest = np.full((2, len(self.order) * len(self.stages)), -1)
        for row, places in zip(latest, (forward, makes), strict=True):
            row[holder[places]] = places  # of several the last one stays
        return np.unique(latest[latest >= 0])
