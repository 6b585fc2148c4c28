"""All passes of a step with the collectives and the messages between them, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.ragged import distinct, ranges
from simulator.schedules.op_kind import OpKind

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from simulator.schedules.columns import Passes
    from simulator.workload.program import Bools, Ints
    from simulator.workload.step.messages import Messages
    from simulator.workload.step.pieces import Pieces
    from simulator.workload.work import Transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRun:
    """Where parts of passes, collectives and messages lie.

    A pass comes after its receiver's part and before its message.

    Attributes:
        messages: The messages of the step.
        parts: Places of the parts of passes.
        collectives: Places of the collectives that follow parts.
        places: Places of the messages.
        owner: Pass of each place.
        before: Part that each collective follows.
        first: First part of each pass.
        last: Last part of each pass.
        receives: Whether each message is the receiver's part of one.
        stream: Stream of each message.
        stage: Stage of each message.
        code: Number of each message's work: a larger source, then a larger target, has a larger one.
        numbers: Number of each pass.
    """

    messages: Messages
    parts: Ints
    collectives: Ints
    places: Ints
    owner: Ints
    before: Ints
    first: Ints
    last: Ints
    receives: Bools
    stream: Ints
    stage: Ints
    code: Ints
    numbers: Ints

    @classmethod
    def of(cls, messages: Messages, passes: Passes, rank: Ints, pieces: Pieces) -> MessageRun:
        """Lay out passes.

        Args:
            messages: Who needs whose result.
            passes: All passes, one rank behind the other.
            rank: Rank of each pass.
            pieces: What they run as.
        """
        numbers = messages.numbers(passes)
        comes = messages.travels[numbers] & messages.blocks
        goes = messages.target[numbers] >= 0
        counts = pieces.count + comes + goes
        first_place = np.cumsum(counts) - counts + comes
        inner = ranges(first_place, pieces.count)
        owner = np.repeat(np.arange(len(passes)), counts)
        is_message = np.ones(len(owner), dtype=np.bool_)
        is_message[inner] = False
        places = np.flatnonzero(is_message)
        pass_of = owner[places]
        receives = places < first_place[pass_of]
        mine = numbers[pass_of]
        producer = messages.producer[mine]
        source = np.where(receives, messages.owner[producer], rank[pass_of])
        target = np.where(receives, rank[pass_of], messages.target[mine])
        followers = np.flatnonzero(~pieces.is_part)
        stage = passes.stage[pass_of]
        received = np.flatnonzero(receives)
        stage[received] = messages.stage(producer[received])
        is_forward = passes.kind[pass_of] == OpKind.FORWARD
        return cls(
            messages=messages,
            parts=inner[np.flatnonzero(pieces.is_part)],
            collectives=inner[followers],
            places=places,
            owner=owner,
            before=np.cumsum(pieces.is_part)[followers] - 1,
            first=pieces.first_part,
            last=np.append(pieces.first_part[1:], len(pieces.number)) - 1,
            receives=receives,
            stream=np.where(is_forward, messages.stream(OpKind.FORWARD), messages.stream(OpKind.BACKWARD)),
            stage=stage,
            code=(source * messages.ranks + target) * 2 + receives,
            numbers=numbers,
        )

    def works(self) -> tuple[list[Transfer], Ints]:
        """Return the works of the messages, and which of them each has."""
        codes, work = distinct(self.code)
        ranks = self.messages.ranks
        works = [
            self.messages.work(code // 2 // ranks, code // 2 % ranks, receives=bool(code % 2))
            for code in codes.tolist()
        ]
        return works, work

    def filled(self, messages: ArrayLike, parts: ArrayLike, collectives: ArrayLike) -> NDArray[Any]:
        """Return a column from its values at messages, parts of passes and collectives."""
        column = np.empty(len(self.owner), dtype=np.result_type(messages, parts, collectives))
        column[self.places] = messages
        column[self.parts] = parts
        column[self.collectives] = collectives
        return column

    def connect(self, first_op: int) -> None:
        """Tell the step's messages which ops the passes are; let messages and collectives wait for theirs."""
        messages, numbers, pass_of = self.messages, self.numbers, self.owner[self.places]
        parts = first_op + self.parts
        messages.first[numbers], messages.last[numbers] = parts[self.first], parts[self.last]
        ops, mine = first_op + self.places, numbers[pass_of]
        receives, sends = np.flatnonzero(self.receives), np.flatnonzero(~self.receives)
        messages.received[mine[receives]] = ops[receives]
        messages.sent[mine[sends]] = ops[sends]
        messages.builder.wait_all(ops[sends], messages.last[mine[sends]])
        messages.builder.wait_all(first_op + self.collectives, parts[self.before])
