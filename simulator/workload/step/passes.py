"""The pipeline's passes and the messages between its stages, as a schedule orders them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from simulator.ragged import distinct
from simulator.schedules import Action, Overlapped
from simulator.schedules.columns import columns
from simulator.workload.layers.layer_work import copied_bytes
from simulator.workload.layers.overlapped import overlapped_block
from simulator.workload.program import Block, BlockSequence, OpKind, Ops, Stream, floating_point_operations
from simulator.workload.step.data_parallel import Segment
from simulator.workload.step.message_run import MessageRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from simulator.scenario import Scenario
    from simulator.schedules import Entry, Order
    from simulator.workload.layers.layer_work import LayerWork
    from simulator.workload.program import Ints, ProgramBuilder, Work
    from simulator.workload.step.data_parallel import DataParallel
    from simulator.workload.step.messages import Messages
    from simulator.workload.step.pieces import Pieces
    from simulator.workload.step.stages import Stage
    from simulator.workload.step.vocabulary_parallel import OutputWriter

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
    sequences: dict[tuple[object, ...], BlockSequence] = field(default_factory=dict)
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

    def _together(self, rank: int, chosen: Sequence[tuple[Action, Segment]]) -> list[BlockSequence]:
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
            self.sequences[(*key, forward.kind)] = BlockSequence(name, counted, share)
            self.sequences[(*key, backward.kind)] = BlockSequence(name, counted, 1.0 - share)
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
        self, rank: int, action: Action, segment: Segment, work: BlockSequence, after: tuple[int, ...]
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

    def sequence(self, rank: int, action: Action, segment: Segment) -> BlockSequence:
        """Return the work of a part of a pass: the same for stages with the same layers."""
        holder = rank if self.scenario.cluster.pools else 0
        key = (action.kind, int(self.data_parallel.alike[action.stage]), segment.number, holder)
        if key not in self.sequences:
            name = f"stage, {action.kind.name.lower().replace('_', ' ')}"
            self.sequences[key] = BlockSequence(name, _counted(_blocks(action, segment)))
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


def append_at_once(writer: PassWriter, pieces: Pieces) -> dict[int, int]:
    """Append the passes of a step with their messages and collectives.

    Args:
        writer: Writes the step.
        pieces: What its passes run as.

    Returns:
        The last op of each rank's passes.
    """
    data, builder = writer.data_parallel, writer.builder
    rank = np.repeat(np.arange(len(data.order)), np.diff(data.first))
    run = MessageRun.of(writer.messages, data.passes, rank, pieces)
    first = builder.add_many(_ops(writer, pieces, run, rank))
    run.connect(first)
    part, before = data.waits(pieces)
    builder.wait_all(first + run.parts[part], before)
    reducing = rank[run.owner[run.collectives]].tolist()
    for each, op in zip(reducing, (first + run.collectives).tolist(), strict=True):
        data.reduced[each].append(op)
    last_parts = run.parts[run.last[data.first[1:] - 1]]
    return dict(enumerate((first + last_parts).tolist()))


def _ops(writer: PassWriter, pieces: Pieces, run: MessageRun, rank: Ints) -> Ops:
    """Return parts of passes, collectives and messages in their order."""
    passes = writer.data_parallel.passes
    of_part = run.owner[run.parts]
    alike, which = _alike(writer, pieces, rank, of_part)
    taken = np.array([writer.bytes_of(action, segment) for _, action, segment in alike])
    allocated, freed = taken.T[:, which]
    messages, of_message = run.works()
    works: list[Work] = [writer.sequence(*each) for each in alike]
    number_of = writer.builder.number_works([*works, *messages, *pieces.collectives])
    of_messages, of_collectives = np.split(number_of[len(works) :], [len(messages)])
    return Ops(
        kind=run.filled(OpKind.TRANSFER, passes.kind[of_part], OpKind.COLLECTIVE),
        rank=rank[run.owner],
        stream=run.filled(run.stream, Stream.COMPUTE, Stream.DP_REDUCE),
        work=run.filled(of_messages[of_message], number_of[which], of_collectives),
        microbatch=run.filled(passes.microbatch[run.owner[run.places]], passes.microbatch[of_part], -1),
        stage=run.filled(run.stage, passes.stage[of_part], pieces.stage),
        join=np.full(len(run.owner), -1),
        allocated_bytes=run.filled(0.0, allocated, 0.0),
        freed_bytes=run.filled(0.0, freed, 0.0),
    )


def _alike(
    writer: PassWriter, pieces: Pieces, rank: Ints, of_part: Ints
) -> tuple[list[tuple[int, Action, Segment]], Ints]:
    """Return the different parts of passes, each with a rank that runs it; and which of them each part is.

    Args:
        writer: Writes the step.
        pieces: What its passes run as.
        rank: Rank of each pass.
        of_part: Pass of each part.
    """
    data, stages = writer.data_parallel, writer.stages
    buckets = 2 + int(pieces.number.max(initial=-1))
    runner = rank * bool(writer.scenario.cluster.pools)  # only then it matters whose hardware runs it
    code = (runner * len(OpKind) + data.passes.kind) * len(stages) + data.alike[data.passes.stage]
    codes, which = distinct(code[of_part] * buckets + pieces.number + 1)
    alike = []
    for each in codes.tolist():
        whole, number = divmod(each, buckets)
        kind, stage = divmod(whole, len(stages))
        holder, kind = divmod(kind, len(OpKind))
        works = data.bucket_works(stage, number - 1) if number else stages[stage].works
        alike.append((holder, Action(OpKind(kind), stage, 0), Segment(works=works, number=number - 1)))
    return alike, which
