"""One-forward-one-backward orders whose steady passes run in pairs, each hiding the other's communication.

Megatron-Core's ``overlap_moe_expert_parallel_comm``: every rank runs one forward pass more before its first
backward pass, so that the two passes of a pair never belong to the same micro-batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.schedules.action import Action, Entry, Overlapped, passes
from simulator.schedules.op_kind import OpKind

if TYPE_CHECKING:
    from simulator.schedules.action import Order

PAIRED = frozenset({"1f1b", "interleaved"})
"""Schedules that can run so; on more than one rank only with several chunks, or ranks wait in turn."""


def in_pairs(order: Order) -> Order:
    """Return the order with a forward pass and a backward pass of each rank's steady phase together.

    >>> kinds = (OpKind.FORWARD, OpKind.BACKWARD)
    >>> one_rank = tuple(Action(kind, 0, microbatch) for microbatch in range(2) for kind in kinds)
    >>> [len(entry) for entry in in_pairs((one_rank,))[0]]
    [3, 2, 3]
    """
    return tuple(_rank(tuple(passes(entries))) for entries in order)


def _rank(actions: tuple[Action, ...]) -> tuple[Entry, ...]:
    forward = [action for action in actions if action.kind is OpKind.FORWARD]
    backward = [action for action in actions if action.kind is not OpKind.FORWARD]
    ahead = next((place for place, action in enumerate(actions) if action.kind is not OpKind.FORWARD), 0)
    pairs = [Overlapped(*pair) for pair in zip(forward[ahead:], backward, strict=False)]
    return (*forward[:ahead], *pairs, *backward[len(pairs) :])
