"""The pipeline's passes and the messages between its stages, as a schedule orders them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from simulator.workload.overlapped_program import overlapped_block
from simulator.workload.passes_at_once import append_at_once
from simulator.workload.program import OpKind, Stream
from simulator.workload.schedules import Action, Overlapped
from simulator.workload.schedules.columns import columns
from simulator.workload.stages import copied_bytes
from simulator.workload.work import Block, floating_point_operations
from simulator.workload.work import Sequence as Blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from simulator.scenario import Scenario
    from simulator.workload.data_parallel import DataParallel, Segment
    from simulator.workload.messages import Messages
    from simulator.workload.program import ProgramBuilder
    from simulator.workload.schedules import Entry, Order
    from simulator.workload.stages import LayerWork, Stage
    from simulator.workload.vocabulary import OutputWriter

FloatOrFloats = TypeVar("FloatOrFloats", float, NDArray[np.float64])

_OUTPUT = (OpKind.OUTPUT_FORWARD, OpKind.OUTPUT_BACKWARD)


@dataclass(slots=True, kw_only=True)
class PassWriter:
    """Appends passes and messages of one step.

    Attributes:
        scenario: The request.
        stages: Its pipeline stages.
        builder: Where ops are appended.
        data_parallel: Cuts passes where its collectives hook in.
        messages: Sends results on and receives them.
        output: Runs the output layer, where all ranks share it.
        last_compute: Last op of each rank's compute stream.
        sequences: Work of a pass over a stage or over one of its buckets.
        overlapped: A layer's forward pass and another's backward pass as one block.
        memory: Activation bytes that a pass over a stage or over one of its buckets takes and gives back.
    """

    scenario: Scenario
    stages: tuple[Stage, ...]
    builder: ProgramBuilder
    data_parallel: DataParallel
    messages: Messages
    output: OutputWriter | None = None
    last_compute: dict[int, int] = field(default_factory=dict)
    sequences: dict[tuple[object, ...], Blocks] = field(default_factory=dict)
    overlapped: dict[tuple[Block, Block], Block] = field(default_factory=dict)
    memory: dict[tuple[OpKind, int, int], tuple[float, float]] = field(default_factory=dict)

    def run(self, order: Order) -> None:
        """Append the passes of all ranks in their order, and the messages between them."""
        pieces = self.data_parallel.pieces() if all(columns(each) is not None for each in order) else None
        if pieces is not None:
            self.last_compute = append_at_once(self, pieces)
        else:
            for rank, entries in enumerate(order):
                for entry in entries:
                    self._entry(rank, entry)
                self.data_parallel.finish(rank, self.last_compute[rank])
        self.messages.connect()
        if self.output is not None:
            self.output.connect(self.messages)

    def _entry(self, rank: int, entry: Entry) -> None:
        if self.output is not None and isinstance(entry, Action) and entry.kind in _OUTPUT:
            self.last_compute[rank] = self.output.append(rank, entry)
            return
        both = tuple(entry) if isinstance(entry, Overlapped) else (entry,)
        for action in both:
            self.messages.receive(action)
        ops = self._pair(rank, entry) if isinstance(entry, Overlapped) else self._single(rank, entry)
        self.last_compute[rank] = ops[-1]
        for action in both:
            number = self.messages.number(action)
            self.messages.first[number], self.messages.last[number] = ops[0], ops[-1]
            self.messages.send(action)

    def _single(self, rank: int, action: Action) -> list[int]:
        ops = []
        for segment in self.data_parallel.segments(rank, action):
            after = self.data_parallel.before(rank, action, segment)
            ops.append(self._compute(rank, action, segment, self.sequence(rank, action, segment), after))
            self.data_parallel.after(rank, action, segment, ops[-1])
        return ops

    def _pair(self, rank: int, pair: Overlapped) -> list[int]:
        """Append two passes that run together, segment by segment.

        Each pair of segments is two ops, one behind the other, that share the time of both; what waits for
        either waits for the second.
        """
        ops: list[int] = []
        data = self.data_parallel
        forward = data.segments(rank, pair.forward)
        backward = data.segments(rank, pair.backward)
        for first, second in zip_longest(forward, backward):
            chosen = [
                (action, segment)
                for action, segment in ((pair.forward, first), (pair.backward, second))
                if segment is not None
            ]
            waits = [data.before(rank, action, segment) for action, segment in chosen]
            together = tuple(op for ops_ in waits for op in ops_)
            works = self._together(rank, chosen)
            made = [
                self._compute(rank, action, segment, work, together)
                for (action, segment), work in zip(chosen, works, strict=True)
            ]
            for action, segment in chosen:
                data.after(rank, action, segment, made[-1])
            ops += made
        return ops

    def _together(self, rank: int, chosen: Sequence[tuple[Action, Segment]]) -> list[Blocks]:
        """Return the work of one segment, or of a forward and a backward one that run beside each other."""
        if len(chosen) == 1:
            return [self.sequence(rank, *chosen[0])]
        (forward, first), (backward, second) = chosen
        key = (rank, forward.stage, first.number, backward.stage, second.number)
        if (*key, forward.kind) not in self.sequences:
            counted = _counted(self._beside(_blocks(forward, first), _blocks(backward, second)))
            work = sum(map(_flops, _blocks(forward, first)))
            both = work + sum(map(_flops, _blocks(backward, second)))
            share = work / both if both else 0.5  # two embeddings
            name = f"stage {forward.stage}, forward beside stage {backward.stage}, backward"
            self.sequences[(*key, forward.kind)] = Blocks(name, counted, share)
            self.sequences[(*key, backward.kind)] = Blocks(name, counted, 1.0 - share)
        return [self.sequences[(*key, action.kind)] for action in (forward, backward)]

    def _beside(self, forward: Sequence[Block], backward: Sequence[Block]) -> Iterable[Block]:
        for first, second in zip_longest(forward, backward):
            if first is None or second is None:
                yield first or second
                continue
            if (first, second) not in self.overlapped:
                self.overlapped[first, second] = overlapped_block(first, second)
            yield self.overlapped[first, second]

    def _compute(
        self, rank: int, action: Action, segment: Segment, work: Blocks, after: tuple[int, ...]
    ) -> int:
        allocated, freed = self.bytes_of(action, segment)
        return self.builder.add(
            action.kind,
            rank,
            Stream.COMPUTE,
            work,
            after=after,
            microbatch=action.microbatch,
            stage=action.stage,
            allocated_bytes=allocated,
            freed_bytes=freed,
        )

    def bytes_of(self, action: Action, segment: Segment) -> tuple[float, float]:
        """Return the activation bytes that a part of a pass takes and gives back."""
        key = (action.kind, int(self.data_parallel.alike[action.stage]), segment.number)
        if key not in self.memory:
            self.memory[key] = _bytes_of(action.kind, segment.works)
        return self.memory[key]

    def sequence(self, rank: int, action: Action, segment: Segment) -> Blocks:
        """Return the work of a part of a pass: the same for stages with the same layers."""
        holder = rank if self.scenario.cluster.pools else 0
        key = (action.kind, int(self.data_parallel.alike[action.stage]), segment.number, holder)
        if key not in self.sequences:
            name = f"stage, {action.kind.name.lower().replace('_', ' ')}"
            self.sequences[key] = Blocks(name, _counted(_blocks(action, segment)))
        return self.sequences[key]


def _blocks(action: Action, segment: Segment) -> list[Block]:
    """Return the blocks of a pass in the order in which they run."""
    blocks = [block_of(action.kind, work) for work in segment.works]
    return blocks if action.kind is OpKind.FORWARD else blocks[::-1]


def block_of(kind: OpKind, work: LayerWork) -> Block:
    """Return a layer's part of a pass.

    Raises:
        TypeError: The pass is half a backward pass, and the layer was built for whole ones.
    """
    if kind is OpKind.FORWARD:
        return work.forward
    if kind is OpKind.BACKWARD:
        return work.backward
    if work.halves is None:
        raise TypeError("the schedule splits a backward pass that was built whole")
    return work.halves.input if kind is OpKind.BACKWARD_INPUT else work.halves.weight


def _counted(blocks: Iterable[Block]) -> tuple[tuple[Block, int], ...]:
    return tuple((block, len(list(same))) for block, same in groupby(blocks) if block.program.num_ops)


def _bytes_of(kind: OpKind, works: Sequence[LayerWork]) -> tuple[float, float]:
    """Return the activation bytes that a pass takes when it starts and gives back when it ends."""
    saved = sum(work.saved_bytes for work in works)
    kept = sum(work.halves.kept_bytes for work in works if work.halves is not None)
    taken, freed = pass_bytes(kind, saved, kept, copied_bytes(works))
    return float(taken), float(freed)


def pass_bytes(
    kind: OpKind, saved: FloatOrFloats, kept: FloatOrFloats, copied: FloatOrFloats
) -> tuple[FloatOrFloats, FloatOrFloats]:
    """Return the activation bytes that passes take when they start and give back when they end.

    Input gradients free everything but what weight gradients wait with: inputs and output gradients of linear
    layers (Qi et al., arXiv:2401.10241, section 2).

    Args:
        kind: Kind of the passes.
        saved: Activation bytes that forward passes leave.
        kept: What weight gradients wait with.
        copied: Activation bytes on their way to or from host memory while a pass runs.
    """
    match kind:
        case OpKind.FORWARD:
            return saved + copied, copied
        case OpKind.BACKWARD_INPUT:
            return np.maximum(0.0, kept - saved) + copied, np.maximum(0.0, saved - kept) + copied
        case OpKind.BACKWARD_WEIGHT:
            return 0.0 * kept, kept
    return copied, saved + copied


def _flops(block: Block) -> float:
    return floating_point_operations(block.program)
