"""Sharded weights: ZeRO-3, FSDP full shard, hybrid sharding, and FSDP without resharding after forward.

Every layer is a unit. Its weights are gathered before it runs, at most ``prefetch`` units ahead of the one
that runs, so that no more than ``prefetch + 1`` units are whole at a time (FSDP's rate limiter keeps two,
arXiv:2304.11277, sections 3.3 and 3.4). After a backward pass its gradients are reduce-scattered, and with
replicas of the shard group the shards are then summed over these.

Gathers and reduce-scatters of a rank use one communicator, which runs them one at a time in the order in
which they were issued (arXiv:2304.11277, section 3.3.2): one stream carries both. The embedding and the
head belong to FSDP's outermost unit, which stays whole from the forward to the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.scenario.sharding import keeps_weights_over_step
from simulator.workload.layers.lower import Habits, forward_program
from simulator.workload.layers.operation import Pointwise
from simulator.workload.parameters.buckets import BucketPolicy
from simulator.workload.parameters.bytes import ParameterBytes
from simulator.workload.parameters.model_states import ModelStates
from simulator.workload.parameters.sharding import StateSharding
from simulator.workload.program import Block, BlockSequence, OpKind, Stream
from simulator.workload.step.data_parallel import NEEDS_WEIGHTS, Bucket, DataParallel, Segment, buckets_of
from simulator.workload.work import Collective, Elementwise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.schedules import Action


@dataclass(slots=True)
class _Queue:
    """How far a rank's gathering and computing have come.

    Attributes:
        actions: The pass of each of its segments.
        segments: All its segments in order.
        computed: Ops that ran the segments up to now.
        gathered: Ops that gather each segment's weights, as far as they were issued.
        pending: Reductions that the next segment must wait for: those that are not overlapped.
    """

    actions: list[Action]
    segments: list[Segment]
    computed: list[int] = field(default_factory=list)
    gathered: list[tuple[int, ...]] = field(default_factory=list)
    pending: tuple[int, ...] = ()


@dataclass(slots=True, kw_only=True)
class FullySharded(DataParallel):
    """Gathers weights unit by unit and reduce-scatters gradients unit by unit.

    Attributes:
        units: Units of each stage.
        cuts: Segments of each pass, by rank.
        queues: State of each rank.
        copies: Copies of units with so many parameters.
    """

    units: list[list[Bucket]] = field(init=False)
    cuts: list[dict[Action, list[Segment]]] = field(init=False)
    queues: list[_Queue] = field(init=False)
    copies: dict[float, UnitCopies] = field(default_factory=dict)

    def prepare(self) -> None:
        """Cut every pass, so that gathering can look ahead."""
        self.units = self.parts or buckets_of(ModelStates.of(self.scenario), self.stages)
        self.cuts, self.queues = [], []
        for rank, actions in enumerate(self.order):
            cuts = {action: self._cut(rank, action) for action in actions}
            pairs = [(action, segment) for action in actions for segment in cuts[action]]
            self.cuts.append(cuts)
            self.queues.append(_Queue([action for action, _ in pairs], [segment for _, segment in pairs]))

    def segments(self, rank: int, action: Action) -> Sequence[Segment]:
        """Return the units of a pass that gathers or reduces; other passes run whole."""
        return self.cuts[rank][action]

    def _cut(self, rank: int, action: Action) -> list[Segment]:
        numbered = list(enumerate(self.units[action.stage]))
        if action.kind is not OpKind.FORWARD:
            numbered.reverse()
        reduces = self.sends_gradients(rank, action)
        segments = [
            Segment(
                works=unit.works,
                number=number,
                gathers=unit if unit.gathers and self._gathers(rank, action, number) else None,
                reduces=(unit,) if reduces and (unit.reduces or unit.sums) else (),
            )
            for number, unit in numbered
        ]
        if any(segment.gathers or segment.reduces for segment in segments):
            return segments
        return [Segment(works=self.stages[action.stage].works)]

    def _gathers(self, rank: int, action: Action, number: int) -> bool:
        """Tell whether a pass gathers a unit's weights, or finds them gathered."""
        degrees = self.scenario.parallelism
        frees, every = degrees.reshard_after_forward, degrees.reduce_every_microbatch
        if keeps_weights_over_step(degrees.pp, reshards=frees, reduces_every=every):
            return action.kind is OpKind.FORWARD and self.is_edge(rank, action)
        if action.kind is OpKind.FORWARD:
            return True
        return frees and action.kind in NEEDS_WEIGHTS and not self._is_boundary(action.stage, number)

    def _is_boundary(self, stage: int, number: int) -> bool:
        held = self.stages[stage]
        is_head = held.has_head and number == len(held.works) - 1
        return is_head or (held.has_embedding and number == 0)

    def before(self, rank: int, action: Action, segment: Segment) -> tuple[int, ...]:
        """Issue gathers as far ahead as allowed; return those of this segment and what is not overlapped."""
        queue = self.queues[rank]
        here = len(queue.computed)
        overlap = self.scenario.training.overlap
        ahead = self.scenario.parallelism.prefetch if overlap.param_gather else 0
        while len(queue.gathered) <= min(here + ahead, len(queue.segments) - 1):
            self._gather(rank, queue, ahead)
        waits, queue.pending = queue.pending + queue.gathered[here], ()
        if segment.gathers is not None:
            for copy in self._copies(segment.gathers).gathered:
                waits = (self._copy(rank, action, copy, waits),)
        return waits

    def _gather(self, rank: int, queue: _Queue, ahead: int) -> None:
        """Gather the next segment's weights once the segment that frees room for them has run."""
        number = len(queue.gathered)
        unit = queue.segments[number].gathers
        freed = number - ahead - 1
        after = (queue.computed[freed],) if freed >= 0 else ()
        queue.gathered.append(
            ()
            if unit is None
            else tuple(
                self._collective(rank, queue.actions[number], each, after, Stream.DP_GATHER)
                for each in unit.gathers
            )
        )

    def after(self, rank: int, action: Action, segment: Segment, op: int) -> None:
        """Reduce-scatter the gradients that the segment completed, then sum shards over replicas."""
        queue = self.queues[rank]
        queue.computed.append(op)
        for unit in segment.reduces:
            ready = (op,)
            for copy in self._copies(unit).reduced:
                ready = (self._copy(rank, action, copy, ready),)
            for each in unit.reduces:
                ready = (self._collective(rank, action, each, ready, Stream.DP_GATHER),)
                self.reduced[rank] += ready
            for each in unit.sums:
                ready = (self._collective(rank, action, each, ready, Stream.DP_REDUCE),)
                self.reduced[rank] += ready
            if not self.scenario.training.overlap.grad_reduce:
                queue.pending += ready

    def _copies(self, unit: Bucket) -> UnitCopies:
        if unit.parameters not in self.copies:
            self.copies[unit.parameters] = unit_copies(self.scenario, unit.parameters)
        return self.copies[unit.parameters]

    def _copy(self, rank: int, action: Action, copy: Copy, after: tuple[int, ...]) -> int:
        return self.builder.add(OpKind.KERNEL, rank, Stream.COMPUTE, copy, after=after, stage=action.stage)

    def _collective(
        self, rank: int, action: Action, work: Collective, after: tuple[int, ...], stream: Stream
    ) -> int:
        return self.builder.add(
            OpKind.COLLECTIVE,
            rank,
            stream,
            work,
            after=after,
            microbatch=action.microbatch,
            stage=action.stage,
        )


Copy = Elementwise | BlockSequence


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCopies:
    """What some stacks copy on the GPU beside the collectives of a unit.

    Attributes:
        gathered: Once its weights are gathered: into tensors that kernels can read.
        reduced: Before its gradients are reduced: into one buffer.
    """

    gathered: tuple[Copy, ...] = ()
    reduced: tuple[Copy, ...] = ()


def unit_copies(scenario: Scenario, parameters: float) -> UnitCopies:
    """Return the copies of a unit with so many parameters."""
    software, sizes = scenario.software, ParameterBytes.of(scenario)
    gathered: list[Copy] = []
    reduced: list[Copy] = []
    weights, gradients = sizes.weight * parameters, sizes.reduced * parameters
    if software.unshard_copies:
        gathered.append(Elementwise(name="unshard_copy", bytes_moved=2.0 * weights))
        size = parameters * (sizes.made + sizes.reduced)
        reduced.append(Elementwise(name="gradient_copy", bytes_moved=size))
    if software.gathers_tensor_by_tensor:
        gathered.append(_part_by_part(scenario, "gathered parts", 2.0 * weights))
        reduced.append(_part_by_part(scenario, "gradient parts", 2.0 * gradients))
    return UnitCopies(gathered=tuple(gathered), reduced=tuple(reduced))


def _part_by_part(scenario: Scenario, name: str, size: float) -> BlockSequence:
    """Copy every rank's part of every tensor of a unit by a kernel of its own."""
    tensors = BucketPolicy.of(scenario.software, scenario.model).tensors
    count = tensors * StateSharding.of(scenario.parallelism).dense.shard.size
    copies = Pointwise(forward=(Elementwise(name=name, bytes_moved=size, kernels=count),), backward=())
    return BlockSequence(name, ((Block(name, forward_program([copies], Habits.of(scenario))), 1),))
