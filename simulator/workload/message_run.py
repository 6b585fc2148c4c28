"""Whole passes of some ranks with the messages between them, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.workload.op_kind import OpKind
from simulator.workload.ragged import distinct
from simulator.workload.schedules.columns import Passes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from simulator.workload.messages import Messages
    from simulator.workload.program import Bools, Ints
    from simulator.workload.work import Transfer


_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRun:
    """Where passes and messages of some ranks lie: a pass after its receiver's part and before its message.

    Ranks lie one after the other, each with its passes in their order.

    Attributes:
        messages: The messages of the step.
        rank: Rank of each place.
        first: Where the passes of each rank begin, and where the last one's end.
        passes: The passes.
        numbers: Number of each pass.
        places: Place of each pass in the run.
        message_places: Place of each message.
        pass_of: Pass that each message belongs to.
        receives: Whether each message is the receiver's part of one.
        stream: Stream of each message.
        codes: Numbers of the works of messages: a larger source, then a larger target, has a larger one.
        work: Place of each message's work among these.
        message_first: Where the messages of each rank begin, and where the last one's end.
        stage: Stage of each place.
        microbatch: Micro-batch of each place.
        start: Where the places of each pass begin, and where the last one's end.
        shift: From a place of each pass to its op; a number that is none before these are appended.
    """

    messages: Messages
    rank: Ints
    first: Ints
    passes: Passes
    numbers: Ints
    places: Ints
    message_places: Ints
    pass_of: Ints
    receives: Bools
    stream: Ints
    codes: Ints
    work: Ints
    message_first: Ints
    stage: Ints
    microbatch: Ints
    start: Ints
    shift: Ints

    @classmethod
    def of(cls, messages: Messages, ranks: Mapping[int, Passes]) -> MessageRun:
        """Lay out the passes of some ranks."""
        lengths = np.array([len(each) for each in ranks.values()])
        rank = np.repeat(np.array(list(ranks)), lengths)
        passes = Passes.joined(*ranks.values())
        numbers = messages.numbers(passes)
        comes = messages.travels[numbers] & messages.blocks
        goes = messages.target[numbers] >= 0
        counts = 1 + comes + goes
        places = np.cumsum(counts) - 1 - goes
        start = np.concatenate(([0], np.cumsum(counts)))
        is_message = np.ones(start[-1], dtype=np.bool_)
        is_message[places] = False
        message_places = np.flatnonzero(is_message)
        pass_of = np.repeat(np.arange(len(passes)), counts - 1)
        receives = message_places < places[pass_of]
        mine = numbers[pass_of]
        producer = messages.producer[mine]
        source = np.where(receives, messages.owner[producer], rank[pass_of])
        target = np.where(receives, rank[pass_of], messages.target[mine])
        stage = np.repeat(passes.stage, counts)
        stage[message_places[receives]] = messages.stage(producer[receives])
        is_forward = passes.kind[pass_of] == OpKind.FORWARD
        first = np.concatenate(([0], np.cumsum(lengths)))
        codes, work = distinct((source * messages.ranks + target) * 2 + receives)
        return cls(
            messages=messages,
            rank=np.repeat(rank, counts),
            first=first,
            passes=passes,
            numbers=numbers,
            places=places,
            message_places=message_places,
            pass_of=pass_of,
            receives=receives,
            stream=np.where(is_forward, messages.stream(OpKind.FORWARD), messages.stream(OpKind.BACKWARD)),
            codes=codes,
            work=work,
            message_first=np.searchsorted(message_places, start[first]),
            stage=stage,
            microbatch=np.repeat(passes.microbatch, counts),
            start=start,
            shift=np.full(len(passes), _NEVER),
        )

    def works(self, number: int) -> tuple[list[Transfer], Ints, Ints]:
        """Return the works of the messages of a rank by its position, their places, and the work of each."""
        begin, end = self.message_first[number : number + 2].tolist()
        mine = self.work[begin:end]
        lowest = mine.min(initial=len(self.codes))
        used, work = distinct(mine - lowest)
        ranks = self.messages.ranks
        works = [
            self.messages.work(code // 2 // ranks, code // 2 % ranks, receives=bool(code % 2))
            for code in self.codes[lowest + used].tolist()
        ]
        return works, self.message_places[begin:end], work

    def filled(self, messages: ArrayLike, passes: ArrayLike) -> NDArray[Any]:
        """Return a column from its values at messages and at passes."""
        column = np.empty(len(self.stage), dtype=np.result_type(messages, passes))
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
        passes = np.flatnonzero(noted)
        numbers = self.numbers[passes]
        messages.first[numbers] = messages.last[numbers] = made[passes]
        mine = np.flatnonzero(noted[self.pass_of])
        pass_of = self.pass_of[mine]
        ops, numbers = self.message_places[mine] + self.shift[pass_of], self.numbers[pass_of]
        receives = self.receives[mine]
        received, sent = np.flatnonzero(receives), np.flatnonzero(~receives)
        messages.received[numbers[received]] = ops[received]
        messages.sent[numbers[sent]] = ops[sent]
        messages.builder.wait_all(ops[sent], made[pass_of[sent]])
