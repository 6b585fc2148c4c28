"""Writes one rank's passes, counting the micro-batches of each kind and stage."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.schedules.action import Action, Overlapped
from simulator.schedules.op_kind import OpKind

if TYPE_CHECKING:
    from simulator.schedules.action import Entry


@dataclass(slots=True)
class RankWriter:
    """A rank's passes so far; each new one takes the next micro-batch of its kind and stage.

    A whole backward pass counts as its input gradient.

    Attributes:
        entries: The passes.
        counts: Micro-batches written, by kind and stage.
        owed: Weight gradients whose input gradients were written, the oldest first.
    """

    entries: list[Entry] = field(default_factory=list)
    counts: Counter[tuple[OpKind, int]] = field(default_factory=Counter)
    owed: deque[Action] = field(default_factory=deque)

    def forwards(self, stage: int) -> int:
        """Return the number of forward passes of a stage."""
        return self.counts[OpKind.FORWARD, stage]

    def forward(self, stage: int, times: int = 1) -> None:
        """Append forward passes."""
        self.entries.extend(self._next(OpKind.FORWARD, stage) for _ in range(times))

    def backward(self, stage: int) -> None:
        """Append a whole backward pass."""
        self.entries.append(self._whole(stage))

    def overlapped(self, forward: int, backward: int) -> None:
        """Append the forward pass of one stage beside the backward pass of another."""
        self.entries.append(Overlapped(self._next(OpKind.FORWARD, forward), self._whole(backward)))

    def input_gradient(self, stage: int) -> None:
        """Append an input gradient, and note that its weight gradient is owed."""
        action = self._next(OpKind.BACKWARD_INPUT, stage)
        self.entries.append(action)
        self.owed.append(action._replace(kind=OpKind.BACKWARD_WEIGHT))

    def weight_gradient(self, stage: int | None = None, times: int = 1) -> None:
        """Append the weight gradients that have been owed longest: of a stage, or of any."""
        for _ in range(times):
            oldest = next(action for action in self.owed if stage in {None, action.stage})
            self.owed.remove(oldest)
            self.entries.append(oldest)

    def split_backward(self, stage: int) -> None:
        """Append an input gradient and the weight gradient that its stage has owed longest."""
        self.input_gradient(stage)
        self.weight_gradient(stage)

    def _whole(self, stage: int) -> Action:
        return self._next(OpKind.BACKWARD_INPUT, stage)._replace(kind=OpKind.BACKWARD)

    def _next(self, kind: OpKind, stage: int) -> Action:
        action = Action(kind, stage, self.counts[kind, stage])
        self.counts[kind, stage] += 1
        return action
