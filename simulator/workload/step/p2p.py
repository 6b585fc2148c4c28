"""Pipeline messages of a step: activations to the next stage, their gradients to the one before.

Where messages are not overlapped with passes, the receive runs on the compute stream of its
rank, just before the pass that needs it:

    rank 0    F0   send F0 ->
    rank 1                    receive F0   F0   ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.ragged import distinct
from simulator.schedules.op_kind import OpKind
from simulator.workload.program import Stream
from simulator.workload.step.data_parallel import AttachedOps
from simulator.workload.step.slots import Message

if TYPE_CHECKING:
    from simulator.workload.program import Bools, Ints
    from simulator.workload.step.segments import PassTable, Segments
    from simulator.workload.step.slots import Slots

_FORWARD, _BACKWARD, _INPUT = int(OpKind.FORWARD), int(OpKind.BACKWARD), int(OpKind.BACKWARD_INPUT)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MessageOps:
    """Who needs whose result, and the sends and receives that carry it between ranks.

    Attributes:
        producer: [pass] Pass whose result each needs, -1 for none.
        travels: [pass] Whether that comes from another rank.
        send: [send] Pass whose result each sends.
        receive: [receive] Pass that each lets wait; none where messages are overlapped.
        stream: [send] Stream that sends.
        messages: The different messages.
        of_send: [send] Index into ``messages``.
        of_receive: [receive] Index into ``messages``.
    """

    producer: Ints
    travels: Bools
    send: Ints
    receive: Ints
    stream: Ints
    messages: tuple[Message, ...]
    of_send: Ints
    of_receive: Ints

    def ops(self, segments: Segments, slots: Slots) -> dict[str, AttachedOps]:
        """Return the ops: a send after the last segment of its pass, a receive before the first of its."""
        passes = segments.passes
        ops = {
            "send": AttachedOps(
                group=segments.group[segments.pass_end[self.send]],
                slot=slots.first_message + self.of_send,
                kind=np.full(len(self.send), OpKind.TRANSFER),
                stream=self.stream,
                stage=passes.stage[self.send],
                microbatch=passes.microbatch[self.send],
            )
        }
        if len(self.receive):
            ops["receive"] = AttachedOps(
                group=segments.group[segments.pass_start[self.receive]],
                slot=slots.first_message + self.of_receive,
                kind=np.full(len(self.receive), OpKind.TRANSFER),
                stream=np.full(len(self.receive), Stream.COMPUTE),
                stage=passes.stage[self.producer[self.receive]],
                microbatch=passes.microbatch[self.receive],
            )
        return ops


def message_ops(passes: PassTable, stages: int, *, overlaps: bool) -> MessageOps:
    """Find the messages of a step.

    Args:
        passes: Its passes.
        stages: Pipeline stages of the model.
        overlaps: Whether sends run on streams of their own, overlapped with passes.
    """
    producer = _producers(passes, stages)
    receivers = np.flatnonzero(producer >= 0)
    travels = np.zeros(len(passes), dtype=np.bool_)
    travels[receivers] = passes.rank[producer[receivers]] != passes.rank[receivers]
    receive = np.flatnonzero(travels)
    target = np.full(len(passes), -1)
    target[producer[receive]] = passes.rank[receive]
    send = np.flatnonzero(target >= 0)
    if overlaps:
        receive = receive[:0]
    # Source, target and send or receive as one integer: equal messages share a slot.
    ranks = passes.ranks
    sent = (passes.rank[send] * ranks + target[send]) * 2
    received = (passes.rank[producer[receive]] * ranks + passes.rank[receive]) * 2 + 1
    codes, index = distinct(np.concatenate((sent, received)))
    overlapped = np.where(passes.kind[send] == OpKind.FORWARD, Stream.PP_FORWARD, Stream.PP_BACKWARD)
    return MessageOps(
        producer=producer,
        travels=travels,
        send=send,
        receive=receive,
        stream=overlapped if overlaps else np.full(len(send), Stream.COMPUTE),
        messages=tuple(
            Message(code // 2 // ranks, code // 2 % ranks, bool(code % 2)) for code in codes.tolist()
        ),
        of_send=index[: len(send)],
        of_receive=index[len(send) :],
    )


def _producers(passes: PassTable, stages: int) -> Ints:
    """Return the pass whose result each pass needs.

    A forward pass needs that of the stage before it, a backward pass that of the stage after it. Where
    backward passes are split, input gradients go on; weight gradients need nothing from elsewhere.
    """
    at = np.flatnonzero(passes.stage >= 0)
    microbatches = 1 + int(passes.microbatch.max(initial=0))
    run = np.full((4, stages, microbatches), -1)  # [kind, stage, micro-batch] its pass
    run[passes.kind[at], passes.stage[at], passes.microbatch[at]] = at
    needs = np.full_like(run, -1)
    needs[_FORWARD, 1:] = run[_FORWARD, :-1]
    later = np.where(run[_INPUT, 1:] >= 0, run[_INPUT, 1:], run[_BACKWARD, 1:])
    needs[_BACKWARD, :-1] = needs[_INPUT, :-1] = later
    producer = np.full(len(passes), -1)
    producer[at] = needs[passes.kind[at], passes.stage[at], passes.microbatch[at]]
    return producer
