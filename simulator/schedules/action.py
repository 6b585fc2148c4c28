"""The entries of a pipeline schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from simulator.schedules.op_kind import OpKind


class Action(NamedTuple):
    """What a rank does next.

    Attributes:
        kind: Forward, backward, or one half of a split backward pass.
        stage: Global pipeline stage, from 0 to ``pp * vpp - 1``.
        microbatch: Micro-batch, from 0.
    """

    kind: OpKind
    stage: int
    microbatch: int


class Overlapped(NamedTuple):
    """A forward and a backward pass that run together, each hiding the other's communication.

    Attributes:
        forward: The forward pass.
        backward: The backward pass.
    """

    forward: Action
    backward: Action


Entry = Action | Overlapped
Order = tuple[Sequence[Entry], ...]
"""What every rank does, in its order."""


def passes(entries: Iterable[Entry]) -> Iterator[Action]:
    """Yield single passes, the forward pass of an overlapped pair first."""
    for entry in entries:
        if isinstance(entry, Overlapped):
            yield from entry
        else:
            yield entry
