"""Single passes of one rank as columns, for schedules of hundreds of thousands of passes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.schedules.action import Action, Entry, Overlapped
from simulator.schedules.op_kind import OpKind

_KINDS = tuple(OpKind)
Ints = NDArray[np.int64]


class Passes(Sequence[Action]):
    """A sequence of actions that keeps its columns as arrays.

    Attributes:
        kind: ``OpKind`` of each pass.
        stage: Global pipeline stage of each pass.
        microbatch: Micro-batch of each pass.

    >>> passes = Passes.of_kind(OpKind.FORWARD, 3, range(2))
    >>> passes[1].microbatch, passes == (Action(OpKind.FORWARD, 3, 0), Action(OpKind.FORWARD, 3, 1))
    (1, True)
    """

    __slots__ = ("kind", "microbatch", "stage")

    def __init__(self, kind: Ints, stage: Ints, microbatch: Ints) -> None:
        self.kind = kind
        self.stage = stage
        self.microbatch = microbatch

    @classmethod
    def of_kind(cls, kind: OpKind, stage: ArrayLike, microbatch: ArrayLike) -> Passes:
        """Return passes of one kind; one stage or micro-batch stands for all."""
        columns = np.empty((3, max(np.size(stage), np.size(microbatch))), dtype=np.int64)
        columns[0], columns[1], columns[2] = kind, stage, microbatch
        return cls(*columns)

    @classmethod
    def of(cls, actions: Iterable[Action]) -> Passes:
        """Return a sequence of actions as columns."""
        table = np.array(list(actions), dtype=np.int64).reshape(-1, 3)
        return cls(*np.ascontiguousarray(table.T))

    @classmethod
    def joined(cls, *parts: Passes) -> Passes:
        """Return some passes one after the other."""
        names = ("kind", "stage", "microbatch")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def taken(self, places: ArrayLike) -> Passes:
        """Return the passes at some places, in the order of these."""
        at = np.asarray(places)
        return Passes(self.kind[at], self.stage[at], self.microbatch[at])

    def with_kind(self, kind: OpKind) -> Passes:
        """Return passes of another kind over the same stages and micro-batches."""
        return Passes.of_kind(kind, self.stage, self.microbatch)

    def __len__(self) -> int:
        return len(self.kind)

    def __iter__(self) -> Iterator[Action]:
        kinds = map(_KINDS.__getitem__, self.kind.tolist())
        return map(Action, kinds, self.stage.tolist(), self.microbatch.tolist())

    @overload
    def __getitem__(self, place: int) -> Action: ...
    @overload
    def __getitem__(self, place: slice) -> Passes: ...
    def __getitem__(self, place: int | slice) -> Action | Passes:
        if isinstance(place, slice):
            return Passes(self.kind[place], self.stage[place], self.microbatch[place])
        return Action(_KINDS[self.kind[place]], int(self.stage[place]), int(self.microbatch[place]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Passes({list(self)!r})"


def columns(entries: Sequence[Entry]) -> Passes | None:
    """Return a rank's passes as columns, or None where some of them run in pairs or as other work."""
    if isinstance(entries, Passes):
        return entries
    single = [entry for entry in entries if not isinstance(entry, Overlapped) and entry.kind in PASSES]
    return Passes.of(single) if len(single) == len(entries) else None


PASSES = frozenset({OpKind.FORWARD, OpKind.BACKWARD, OpKind.BACKWARD_INPUT, OpKind.BACKWARD_WEIGHT})
"""Kinds of passes through a stage."""


def one_forward_one_backward(forward: Passes, backward: Passes, ahead: int) -> Passes:
    """Return ``ahead`` forward passes, a forward and a backward one in turn, and the other backward ones."""
    names = ("kind", "stage", "microbatch")
    columns = np.empty((len(names), 2 * len(forward)), dtype=np.int64)
    in_turn = columns[:, ahead : 2 * len(forward) - ahead]
    steady = len(forward) - ahead
    for row, turns, name in zip(columns, in_turn, names, strict=True):
        there, back = getattr(forward, name), getattr(backward, name)
        row[:ahead], turns[0::2], turns[1::2] = there[:ahead], there[ahead:], back[:steady]
        row[len(row) - ahead :] = back[steady:]
    return Passes(*columns)
