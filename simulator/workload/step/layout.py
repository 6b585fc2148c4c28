"""Layout of one training step: every rank's ops in order, and what each waits for. No seconds, no layers.

One pipeline rank of 1F1B with two micro-batches; the first forward and the last backward pass are cut into
two gradient buckets, whose weights are gathered and whose gradients are reduced beside them:

    op       kind        stream     slot               waits for
    0        COLLECTIVE  dp gather  gather, bucket 0   -
    1        COLLECTIVE  dp gather  gather, bucket 1   0 (stream)
    2        FORWARD     compute    F, bucket 0        0
    3        FORWARD     compute    F, bucket 1        1
    4        FORWARD     compute    F                  3 (stream)
    5        BACKWARD    compute    B                  4 (stream)
    6        BACKWARD    compute    B, bucket 1        5 (stream)
    7        COLLECTIVE  dp reduce  reduce, bucket 1   6
    8        BACKWARD    compute    B, bucket 0        6 (stream)
    9        COLLECTIVE  dp reduce  reduce, bucket 0   8
    10 ...   gradient norm, optimizer, overhead        7, 9, 8

``slot`` says where an op's cost is found (``slots``). Steps with the same ``LayoutInputs`` share their layout
and differ in their column of costs only.

Ops of a rank lie group by group of segments: receives, gathers and copies come before a group's compute ops,
copies and reductions after them, and last the message that sends the result on. So the index of every op
follows from how many ops of each sort each group has:

    group        receive  gather  copy  compute  reduction  send  ->  first op
    0            0        2       0     1        0          1         0
    1            1        0       0     2        1          0         4
    2            0        0       0     1        0          0         8
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from simulator.ragged import ranges
from simulator.workload.program import Program, Stream
from simulator.workload.step.data_parallel import AttachedOps, bucketed_passes, initial_gathers, reductions
from simulator.workload.step.end import end_ops
from simulator.workload.step.fsdp import unit_gathers, unit_passes
from simulator.workload.step.p2p import message_ops
from simulator.workload.step.queues import Queues
from simulator.workload.step.segments import Segments, pass_table
from simulator.workload.step.slots import PairSegments, Slots
from simulator.workload.step.vocabulary_parallel import output_exchanges

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.workload.program import Bools, Ints
    from simulator.workload.step.fsdp import UnitGathers
    from simulator.workload.step.inputs import LayoutInputs
    from simulator.workload.step.p2p import MessageOps
    from simulator.workload.step.slots import Holding
    from simulator.workload.step.vocabulary_parallel import OutputExchanges

_BEFORE = ("receive", "broadcast", "gather", "copy")
"""Sorts of ops before the compute ops of a group, in their order."""
_AFTER = ("reduction", "sum", "gradient", "send")
"""Sorts of ops after them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepLayout:
    """One laid-out step.

    Attributes:
        program: Its ops; ``work`` is the slot of each, and they take no memory.
        slots: What the slots are.
        holdings: The stages that ranks hold, by stage and rank.
        held: Stages of each rank, in model order.
        queues: Its passes and data-parallel collectives.
    """

    program: Program
    slots: Slots
    holdings: tuple[Holding, ...]
    held: tuple[tuple[int, ...], ...]
    queues: Queues


def lay_out(inputs: LayoutInputs) -> StepLayout:
    """Lay out one training step."""
    passes = pass_table(inputs.pipeline, inputs.times)
    fsdp = inputs.fsdp
    buckets = bucketed_passes(inputs, passes) if fsdp is None else unit_passes(inputs, passes, fsdp)
    segments = Segments.of(passes, buckets)
    messages = message_ops(passes, inputs.pipeline.stages, overlaps=inputs.overlaps_p2p)
    pairs, pair = _pairs(segments)
    slots = Slots(
        holdings=len(passes.holdings),
        buckets=max(1, *(sum(length for _, length in runs) for runs in inputs.buckets)),
        ranks=passes.ranks,
        pairs=pairs,
        messages=messages.messages,
    )
    gathers = None if fsdp is None else unit_gathers(inputs, segments, slots, fsdp)
    initial = initial_gathers(inputs, segments, slots) if fsdp is None else None
    reduced = reductions(inputs, segments, slots)
    output = output_exchanges(inputs.pipeline, segments, slots)
    first = 0 if initial is None else len(initial.ops)
    step = _Step.of(
        segments,
        first,
        {
            "compute": _compute_ops(segments, slots, pair),
            "reduction": reduced.ops,
            **messages.ops(segments, slots),
            **({} if output is None else output.ops()),
            **({} if gathers is None else {"gather": gathers.ops, "copy": gathers.copies}),
        },
    )
    if initial is not None:
        step.put(np.arange(first), initial.ops, initial.rank)
        step.group_waits(initial.waiting, initial.awaited)
    opens = step.connect_gathers(gathers)
    step.connect_messages(messages)
    step.connect_reductions(reduced.follows_previous, opens, overlaps=inputs.overlaps_grad_reduce)
    if output is not None:
        step.connect_output_layer(output)
    program = step.finish(inputs, slots, passes.holdings)
    return StepLayout(
        program=program,
        slots=slots,
        holdings=passes.holdings,
        held=passes.held(),
        queues=Queues.of(program),
    )


def _pairs(segments: Segments) -> tuple[tuple[PairSegments, ...], Ints]:
    """Return the different pairs of segments that run together, and the pair of each group, -1 for none."""
    pair = np.full(segments.groups, -1)
    groups = np.flatnonzero(np.diff(segments.group_start) == 2)
    if not groups.size:
        return (), pair
    first = segments.group_start[groups]
    holding = segments.passes.holding[segments.pass_]
    columns = (holding[first], segments.bucket[first], holding[first + 1], segments.bucket[first + 1])
    rows, index = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    pair[groups] = index.reshape(-1)
    return tuple(PairSegments(*row) for row in rows.tolist()), pair


def _compute_ops(segments: Segments, slots: Slots, pair: Ints) -> AttachedOps:
    """Return the passes, and the buckets of passes that are cut.

    Args:
        segments: Which they are.
        slots: Where costs are found.
        pair: [group] Pair of segments that run together, -1 for none.
    """
    passes, pass_, group = segments.passes, segments.pass_, segments.group
    kind, stage = passes.kind[pass_], passes.stage[pass_]
    slot = passes.holding[pass_] * slots.per_holding + slots.of_pass(kind, segments.bucket)
    in_pair = np.flatnonzero(pair[group] >= 0)
    is_second = in_pair - segments.group_start[group[in_pair]]
    slot[in_pair] = slots.first_pair + 2 * pair[group[in_pair]] + is_second
    output = np.flatnonzero(stage < 0)
    slot[output] = slots.of_output(segments.rank[output], kind[output])
    return AttachedOps(
        group=group,
        slot=slot,
        kind=kind,
        stream=np.full(len(segments), Stream.COMPUTE),
        stage=stage,
        microbatch=passes.microbatch[pass_],
    )


@dataclass(slots=True, kw_only=True, eq=False)
class _Step:
    """A step whose ops are in order, while they are connected.

    Attributes:
        segments: Its compute ops.
        ops: Ops of each sort, in the order of their groups.
        index: Index in the step of each op of each sort.
        columns: Columns of the Program by name, up to the end of the step.
        waiting: [edge] Op that waits.
        awaited: [edge] Op that it waits for.
    """

    segments: Segments
    ops: Mapping[str, AttachedOps]
    index: dict[str, Ints]
    columns: dict[str, Ints]
    waiting: list[Ints] = field(default_factory=list)
    awaited: list[Ints] = field(default_factory=list)

    @classmethod
    def of(cls, segments: Segments, first: int, ops: Mapping[str, AttachedOps]) -> _Step:
        """Place all ops of a step up to its end.

        Args:
            segments: The compute ops.
            first: How many ops come before all groups.
            ops: The ops of each sort.
        """
        sorts = [name for name in (*_BEFORE, "compute", *_AFTER) if name in ops]
        counts = {name: np.bincount(ops[name].group, minlength=segments.groups) for name in sorts}
        total = sum(counts.values())  # [group]
        at = first + np.cumsum(total) - total
        index = {}
        for name in sorts:
            group, count = ops[name].group, counts[name]
            index[name] = at[group] + np.arange(len(group)) - (np.cumsum(count) - count)[group]
            at = at + count
        size = first + int(np.sum(total))
        names = ("kind", "rank", "stream", "work", "microbatch", "stage", "join")
        step = cls(
            segments=segments, ops=ops, index=index, columns={name: np.full(size, -1) for name in names}
        )
        rank = segments.rank[segments.group_start[:-1]]
        for name in sorts:
            step.put(index[name], ops[name], rank[ops[name].group])
        return step

    def put(self, index: Ints, ops: AttachedOps, rank: Ints) -> None:
        """Put ops into the columns."""
        values = (ops.kind, rank, ops.stream, ops.slot, ops.microbatch, ops.stage, ops.join)
        for column, value in zip(self.columns.values(), values, strict=True):
            column[index] = value

    def wait(self, waiting: Ints, awaited: Ints) -> None:
        """Let ops wait for others, one for one."""
        self.waiting.append(waiting)
        self.awaited.append(awaited)

    def group_waits(self, segment: Ints, awaited: Ints) -> None:
        """Let all compute ops of the groups of some segments wait for ops, one for one."""
        segments = self.segments
        start = segments.group_start[segments.group[segment]]
        count = segments.group_start[segments.group[segment] + 1] - start
        self.wait(self.index["compute"][ranges(start, count)], np.repeat(awaited, count))

    def connect_gathers(self, gathers: UnitGathers | None) -> Ints:
        """Let segments wait for their weights, and gathers for the segment that frees room for them.

        Returns:
            [segment] The copy of gathered weights that comes before it, or -1.
        """
        opens = np.full(len(self.segments), -1)
        if gathers is None:
            return opens
        copy, gather = self.index["copy"], self.index["gather"]
        opens[gathers.copied[::-1]] = copy[::-1]  # of several the first one stays
        self.segment_waits(gathers.segment, gather, opens)
        freed = np.flatnonzero(gathers.freed >= 0)
        self.wait(gather[freed], self.index["compute"][gathers.freed[freed]])
        same = gathers.copied[1:] == gathers.copied[:-1]
        self.wait(copy[1:][same], copy[:-1][same])
        last = np.ones(len(copy), dtype=np.bool_)
        last[:-1] = ~same
        self.group_waits(gathers.copied[last], copy[last])
        return opens

    def segment_waits(self, segment: Ints, awaited: Ints, opens: Ints) -> None:
        """Let segments, or the copies that come before them, wait for ops."""
        copied = opens[segment] >= 0
        self.wait(opens[segment[copied]], awaited[copied])
        self.group_waits(segment[~copied], awaited[~copied])

    def connect_messages(self, messages: MessageOps) -> None:
        """Let every pass wait for what it needs, and every message for the pass whose result it carries."""
        compute, segments = self.index["compute"], self.segments
        end = compute[segments.pass_end]  # [pass]
        sent = end.copy()  # [pass] what those that need its result wait for
        sent[messages.send] = self.index["send"]
        self.wait(self.index["send"], end[messages.send])
        if len(messages.receive):
            self.wait(self.index["receive"], end[messages.producer[messages.receive]])
        needs = np.flatnonzero(messages.producer >= 0)
        before = messages.producer[needs]
        awaited = np.where(messages.travels[needs], sent[before], end[before])
        self.wait(compute[segments.pass_start[needs]], awaited)

    def connect_reductions(self, follows_previous: Bools, opens: Ints, *, overlaps: bool) -> None:
        """Let reductions wait for their gradients, and without overlap the rank's next passes for them.

        Args:
            follows_previous: [reduction] Whether it waits for the one before it.
            opens: [segment] The copy of gathered weights that comes before it, or -1.
            overlaps: Whether passes go on meanwhile.
        """
        segments, index, group = self.segments, self.index["reduction"], self.ops["reduction"].group
        after = self.index["compute"][segments.group_start[group + 1] - 1]
        previous = np.roll(index, 1)
        self.wait(index, np.where(follows_previous, previous, after))
        if overlaps or not len(index):
            return
        last = np.diff(group, append=-1) != 0
        following = self._next_group(group[last])
        held_up = following >= 0
        self.segment_waits(segments.group_start[following[held_up]], index[last][held_up], opens)

    def _next_group(self, groups: Ints) -> Ints:
        """Return the next groups of passes through stages on the same ranks, -1 where there is none."""
        segments = self.segments
        first = segments.group_start[:-1]
        through_stage = np.flatnonzero(segments.passes.stage[segments.pass_[first]] >= 0)
        index = np.searchsorted(through_stage, groups, side="right")
        following = np.append(through_stage, -1)[index]
        rank = segments.rank[first]
        return np.where(rank[following] == rank[groups], following, -1)

    def connect_output_layer(self, output: OutputExchanges) -> None:
        """Let passes S and T and the exchanges of a divided output layer wait for each other."""
        compute, segments = self.index["compute"], self.segments
        broadcast, total, gradient = (self.index[name] for name in ("broadcast", "sum", "gradient"))
        self.wait(compute[output.forward], broadcast)
        self.wait(total, compute[output.forward])
        self.wait(compute[output.backward], total[output.sum_of_backward])
        self.wait(gradient, compute[output.backward][: len(gradient)])
        self.wait(broadcast[output.first], compute[segments.pass_end[output.last_forward]])
        exchanged = gradient if len(gradient) else total
        self.wait(
            compute[segments.pass_start[output.last_backward]], exchanged[output.exchange_of_last_backward]
        )

    def finish(self, inputs: LayoutInputs, slots: Slots, holdings: tuple[Holding, ...]) -> Program:
        """Append the end of the step and return the program."""
        segments, first = self.segments, len(self.columns["kind"])
        reduction = self.index["reduction"]
        rank = self.columns["rank"][reduction]
        passes = segments.passes
        last = self.index["compute"][segments.pass_end[passes.rank_start[1:] - 1]]
        before = [np.append(reduction[rank == number], last[number]) for number in range(passes.ranks)]
        end = end_ops(inputs, slots, holdings, before, first)
        tail = end.columns()
        nothing = np.zeros(first)
        return Program.of(
            {name: np.concatenate((self.columns.get(name, nothing), tail[name])) for name in tail},
            waiting=np.concatenate([*self.waiting, *end.waiting]),
            awaited=np.concatenate([*self.awaited, *end.awaited]),
            works=(),
            rank_names=tuple(f"pp {number}" for number in range(passes.ranks)),
        )
