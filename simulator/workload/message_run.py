"""A run of whole passes of one rank with the messages between them, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.workload.op_kind import OpKind
from simulator.workload.ragged import distinct

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from simulator.workload.messages import Messages
    from simulator.workload.program import Bools, Ints
    from simulator.workload.schedules.columns import Passes
    from simulator.workload.work import Transfer


_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRun:
    """Where passes and messages of a run lie: each pass after its receiver's part and before its message.

    Attributes:
        messages: The messages of the step.
        numbers: Number of each pass.
        places: Place of each pass in the run.
        message_places: Place of each message.
        pass_of: Pass that each message belongs to.
        receives: Whether each message is the receiver's part of one.
        stream: Stream of each message.
        work: Index into ``works`` of each message.
        works: Pieces of work of the messages.
        microbatch: Micro-batch of each place.
        stage: Stage of each place.
        start: Where the places of each pass begin, and where the last one's end.
        shift: From a place of each pass to its op; a number that is none before these are appended.
    """

    messages: Messages
    numbers: Ints
    places: Ints
    message_places: Ints
    pass_of: Ints
    receives: Bools
    stream: Ints
    work: Ints
    works: tuple[Transfer, ...]
    microbatch: Ints
    stage: Ints
    start: Ints
    shift: Ints

    @classmethod
    def of(cls, messages: Messages, rank: int, passes: Passes) -> MessageRun:
        """Lay a run out."""
        numbers = messages.numbers(passes)
        comes = messages.travels[numbers] & messages.blocks
        goes = messages.target[numbers] >= 0
        counts = 1 + comes + goes
        places = np.cumsum(counts) - 1 - goes
        owner = np.repeat(np.arange(len(passes)), counts)
        is_message = np.ones(len(owner), dtype=np.bool_)
        is_message[places] = False
        message_places = np.flatnonzero(is_message)
        pass_of = owner[message_places]
        receives = message_places < places[pass_of]
        mine = numbers[pass_of]
        producer = messages.producer[mine]
        source = np.where(receives, messages.owner[producer], rank)
        target = np.where(receives, rank, messages.target[mine])
        stage = passes.stage[owner]
        stage[message_places[receives]] = messages.stage(producer[receives])
        works, work = _distinct(messages, source, target, receives)
        is_forward = passes.kind[pass_of] == OpKind.FORWARD
        stream = np.where(is_forward, messages.stream(OpKind.FORWARD), messages.stream(OpKind.BACKWARD))
        return cls(
            messages=messages,
            numbers=numbers,
            places=places,
            message_places=message_places,
            pass_of=pass_of,
            receives=receives,
            stream=stream,
            work=work,
            works=works,
            microbatch=passes.microbatch[owner],
            stage=stage,
            start=np.concatenate(([0], np.cumsum(counts))),
            shift=np.full(len(passes), _NEVER),
        )

    def filled(self, messages: ArrayLike, passes: ArrayLike) -> NDArray[np.float64]:
        """Return a column from its values at messages and at passes."""
        column = np.empty(len(self.stage))
        column[self.message_places] = messages
        column[self.places] = passes
        return column

    def note(self, op: int, first: int, end: int) -> int:
        """Note that passes ``first`` up to ``end`` begin with op ``op``; return the op of the last one."""
        self.shift[first:end] = op - self.start[first]
        return int(self.places[end - 1] + self.shift[end - 1])

    def connect(self) -> None:
        """Tell the step's messages which ops the passes noted are; let what they send wait for them."""
        messages, noted = self.messages, self.shift != _NEVER
        made = self.places + self.shift
        numbers = self.numbers[noted]
        messages.first[numbers] = messages.last[numbers] = made[noted]
        mine = noted[self.pass_of]
        pass_of, receives = self.pass_of[mine], self.receives[mine]
        ops, numbers = self.message_places[mine] + self.shift[pass_of], self.numbers[pass_of]
        messages.received[numbers[receives]] = ops[receives]
        messages.sent[numbers[~receives]] = ops[~receives]
        messages.builder.wait_all(ops[~receives], made[pass_of[~receives]])


def _distinct(
    messages: Messages, source: Ints, target: Ints, receives: Bools
) -> tuple[tuple[Transfer, ...], Ints]:
    ranks = 1 + max(int(source.max(initial=0)), int(target.max(initial=0)))
    codes, work = distinct((source * ranks + target) * 2 + receives)
    works = tuple(
        messages.work(code // 2 // ranks, code // 2 % ranks, receives=bool(code % 2))
        for code in codes.tolist()
    )
    return works, work
