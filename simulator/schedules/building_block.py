"""Schedules repeated from a building block (controllable memory, Qi et al., arXiv:2405.15362).

A building block places the passes of one micro-batch in unit slots, six per rank: forward passes, input and
weight gradients of two chunks in the shape of a V. Repeating it every six slots gives a schedule whose
memory is known from how long the block holds its activations. Its ends are then tightened: passes move to
earlier free slots wherever the memory's peak does not grow.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.schedules.action import Action
from simulator.schedules.op_kind import OpKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from simulator.schedules.action import Order

PERIOD = 6
Block = tuple[int, int, int, int]
"""Slots of a rank's passes of micro-batch 0: forward of both chunks, input gradients of both."""
_KINDS = (OpKind.FORWARD, OpKind.FORWARD, OpKind.BACKWARD_INPUT, OpKind.BACKWARD_INPUT)


def repeated(pp: int, num_microbatches: int, block: Callable[[int], Block]) -> Order:
    """Repeat a building block for all micro-batches and tighten both ends.

    Args:
        pp: Pipeline ranks, two chunks each.
        num_microbatches: Micro-batches.
        block: Gives a rank's slots.
    """
    ranks = [_Rank.of(block(rank), num_microbatches) for rank in range(pp)]
    limit = max(rank.peak() for rank in ranks)
    _tighten(ranks, limit)
    return tuple(tuple(_actions(rank, number, pp)) for number, rank in enumerate(ranks))


@dataclass(slots=True)
class _Rank:
    """Slots of a rank's passes, by the four kinds of ``Block`` and micro-batch.

    Attributes:
        slots: When each pass runs.
        taken: Slots that are in use.
    """

    slots: list[list[int]]
    taken: set[int]

    @classmethod
    def of(cls, block: Block, num_microbatches: int) -> _Rank:
        slots = [[slot + PERIOD * number for number in range(num_microbatches)] for slot in block]
        return cls(slots, {slot for mine in slots for slot in mine})

    def weights(self) -> list[tuple[int, int, int]]:
        """Give free slots to weight gradients, the oldest first: slot, kind and micro-batch."""
        ready = sorted(
            (slot, kind, number) for kind in (2, 3) for number, slot in enumerate(self.slots[kind])
        )
        waiting = deque(ready)
        owed: deque[tuple[int, int]] = deque()
        found: list[tuple[int, int, int]] = []
        slot = ready[0][0]
        while waiting or owed:
            if waiting and waiting[0][0] == slot:
                owed.append(waiting.popleft()[1:])
            elif slot not in self.taken and owed:
                found.append((slot, *owed.popleft()))
            slot += 1
        return found

    def peak(self) -> int:
        """Return the most activations held at a time, in chunks of a micro-batch."""
        return max(self.held())

    def held(self) -> list[int]:
        """Return the activations held in each slot."""
        weights = self.weights()
        changes = [0] * (weights[-1][0] + 2)
        for kind in (0, 1):
            for slot in self.slots[kind]:
                changes[slot] += 1
        for slot, _, _ in weights:
            changes[slot + 1] -= 1
        total, held = 0, []
        for change in changes:
            total += change
            held.append(total)
        return held


def _tighten(ranks: Sequence[_Rank], limit: int) -> None:
    """Move passes before the first and after the last full block to earlier free slots."""
    starts, ends = ranks[0].slots[3][0], ranks[0].slots[0][-1]
    passes = sorted(
        (slot, rank, kind, number)
        for rank, mine in enumerate(ranks)
        for kind in range(4)
        for number, slot in enumerate(mine.slots[kind])
    )
    for slot, number, kind, microbatch in passes:
        rank = ranks[number]
        if starts <= slot <= ends:
            continue
        earliest = _earliest(ranks, number, kind, microbatch)
        for wanted in range(earliest, slot):
            if wanted not in rank.taken and _move(rank, kind, microbatch, wanted, limit):
                break


def _move(rank: _Rank, kind: int, microbatch: int, wanted: int, limit: int) -> bool:
    """Move a pass to an earlier slot; undo it where more memory were held than ``limit``."""
    slot = rank.slots[kind][microbatch]
    rank.slots[kind][microbatch] = wanted
    rank.taken.remove(slot)
    rank.taken.add(wanted)
    if kind < 2 and rank.peak() > limit:
        rank.slots[kind][microbatch] = slot
        rank.taken.remove(wanted)
        rank.taken.add(slot)
        return False
    return True


def _earliest(ranks: Sequence[_Rank], rank: int, kind: int, microbatch: int) -> int:
    """Return the first slot in which everything that a pass needs has run."""
    neighbour = rank - 1 if kind in {0, 2} else rank + 1
    slots = ranks[rank].slots
    before = [slots[kind][microbatch - 1]] if microbatch else []
    if 0 <= neighbour < len(ranks):
        before.append(ranks[neighbour].slots[kind][microbatch])
    elif kind:
        before.append(slots[kind - 1][microbatch])
    return max(before, default=-1) + 1


def _actions(rank: _Rank, number: int, pp: int) -> Iterator[Action]:
    """Yield a rank's passes in the order of their slots."""
    stages = (number, 2 * pp - 1 - number)
    chunk = (0, 1, 1, 0)
    placed = [
        (slot, Action(_KINDS[kind], stages[chunk[kind]], microbatch))
        for kind in range(4)
        for microbatch, slot in enumerate(rank.slots[kind])
    ]
    placed += [
        (slot, Action(OpKind.BACKWARD_WEIGHT, stages[chunk[kind]], microbatch))
        for slot, kind, microbatch in rank.weights()
    ]
    return (action for _, action in sorted(placed))
