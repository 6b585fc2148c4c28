"""Where the cost of each op of a step is found.

Ops carry a slot: an integer row of a table of costs, so that a step is laid out once for all scenarios that
differ in their costs only. Slots lie in four blocks. A holding is a stage on a rank that runs it (DualPipe's
stages have two); here two holdings (h0, h1) with two buckets each, on two ranks (r0, r1):

    block      slots
    holdings   h0: F whole, F bucket 0, F bucket 1, B whole, ...       PASS_KINDS x (1 + buckets)
                   gather 0, gather 1, reduce 0, ... of buckets 0, 1   COLLECTIVES x MAX_PER_BUCKET
                   unshard copy, ... of buckets 0, 1                   COPIES
                   sum of the stage's copies
               h1: the same
    ranks      r0: optimizer, weight casts, gradient norm, ...         RankSlot
               r1: the same
    pairs      forward and backward segment that run together          two for each pair
    messages   r0 -> r1, r1 -> r0, ...                                 one for each pair of ranks

Stages with equal layers have equal costs: ``compressed`` maps the blocks of equal holdings, and of equal
ranks, onto one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simulator.schedules.op_kind import OpKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.workload.program import Ints

PASS_KINDS = (OpKind.FORWARD, OpKind.BACKWARD, OpKind.BACKWARD_INPUT, OpKind.BACKWARD_WEIGHT)
"""Kinds of passes through a stage, in the order of their slots; each kind is its own index."""
COLLECTIVES = ("gathers", "reduces", "sums")
"""Collectives of a bucket, in the order of their slots: at most ``MAX_PER_BUCKET`` of each."""
MAX_PER_BUCKET = 2
"""One over the ranks that share dense weights, one over those that share experts."""
COPIES = ("unshard_copy", "gathered parts", "gradient_copy", "gradient parts")
"""Copies of a bucket on the GPU, in the order of their slots: two before its pass, two after it."""


class RankSlot(IntEnum):
    """What a rank does besides passes through its stages and their data parallelism."""

    OPTIMIZER = 0
    WEIGHT_CASTS = 1
    GRADIENT_NORM = 2
    TIED_EMBEDDINGS = 3
    STEP_OVERHEAD = 4
    AMAX_FORWARD = 5
    AMAX_BACKWARD = 6
    OFFLOAD_IN = 7
    OFFLOAD_UPDATE = 8
    OFFLOAD_OUT = 9
    OUTPUT_FORWARD = 10
    OUTPUT_BACKWARD = 11
    OUTPUT_BROADCAST = 12
    OUTPUT_SUM = 13
    OUTPUT_GRADIENT = 14


class Holding(NamedTuple):
    """A stage on a rank that runs it."""

    stage: int
    rank: int


class PairSegments(NamedTuple):
    """Buckets of a forward and of a backward pass that run together; -1 stands for a whole pass."""

    forward_holding: int
    forward_bucket: int
    backward_holding: int
    backward_bucket: int


class Message(NamedTuple):
    """A P2P message between two pipeline ranks: the send, or the receive."""

    source: int
    target: int
    receives: bool


@dataclass(frozen=True, kw_only=True)
class Slots:
    """The slots of a layout, or of a structure (then holdings and ranks are kinds of them).

    Attributes:
        holdings: How many holdings there are.
        buckets: Gradient buckets (or FSDP units) of the stage with most.
        ranks: How many ranks there are.
        pairs: Pairs of passes that run together.
        messages: Pipeline messages.
    """

    holdings: int
    buckets: int
    ranks: int
    pairs: tuple[PairSegments, ...]
    messages: tuple[Message, ...]

    @cached_property
    def collectives(self) -> int:
        """First slot of the collectives of a holding, counted from the holding's own first slot."""
        return len(PASS_KINDS) * (1 + self.buckets)

    @cached_property
    def copies(self) -> int:
        """First slot of the copies of a holding, likewise."""
        return self.collectives + len(COLLECTIVES) * MAX_PER_BUCKET * self.buckets

    @cached_property
    def stage_copy(self) -> int:
        """Slot of the sum of a stage's copies, likewise."""
        return self.copies + len(COPIES) * self.buckets

    @cached_property
    def per_holding(self) -> int:
        """Slots of one holding."""
        return self.stage_copy + 1

    @cached_property
    def first_rank(self) -> int:
        """First slot of the ranks."""
        return self.holdings * self.per_holding

    @cached_property
    def first_pair(self) -> int:
        """First slot of the pairs."""
        return self.first_rank + self.ranks * len(RankSlot)

    @cached_property
    def first_message(self) -> int:
        """First slot of the messages."""
        return self.first_pair + 2 * len(self.pairs)

    @cached_property
    def size(self) -> int:
        """Number of slots."""
        return self.first_message + len(self.messages)

    def of_pass(self, kind: Ints | int, bucket: Ints | int) -> Ints:
        """Return the slots of passes in their holding's block; bucket -1 stands for a whole pass."""
        slots: Ints = np.asarray(kind) * (1 + self.buckets) + 1 + np.asarray(bucket)
        return slots

    def of_collective(self, bucket: int, kind: int, index: int) -> int:
        """Return the slot of a bucket's collective in its holding's block."""
        return self.collectives + (bucket * len(COLLECTIVES) + kind) * MAX_PER_BUCKET + index

    def of_copy(self, bucket: int, copy: int) -> int:
        """Return the slot of a bucket's copy in its holding's block."""
        return self.copies + bucket * len(COPIES) + copy

    def of_rank(self, rank: Ints | int, slot: RankSlot) -> Ints:
        """Return the slots of what ranks do besides their stages."""
        slots: Ints = self.first_rank + np.asarray(rank) * len(RankSlot) + int(slot)
        return slots

    def of_output(self, rank: Ints, kind: Ints) -> Ints:
        """Return the slots of passes S and T of a divided output layer."""
        first = self.of_rank(rank, RankSlot.OUTPUT_FORWARD)
        slots: Ints = first + (kind == OpKind.OUTPUT_BACKWARD)
        return slots

    def compressed(self, holding_kind: Sequence[int], rank_kind: Sequence[int]) -> tuple[Slots, Ints]:
        """Map equal holdings and equal ranks onto one block each.

        Args:
            holding_kind: Kind of each holding, counted from 0.
            rank_kind: Kind of each rank, counted from 0.

        Returns:
            The slots of the kinds, and for each slot of ``self`` the one that it becomes.
        """
        pairs = [
            pair._replace(
                forward_holding=holding_kind[pair.forward_holding],
                backward_holding=holding_kind[pair.backward_holding],
            )
            for pair in self.pairs
        ]
        kinds = dict.fromkeys(pairs)
        small = Slots(
            holdings=1 + max(holding_kind),
            buckets=self.buckets,
            ranks=1 + max(rank_kind),
            pairs=tuple(kinds),
            messages=self.messages,
        )
        kind_of_pair = {pair: index for index, pair in enumerate(kinds)}
        pair_kind = np.array([kind_of_pair[pair] for pair in pairs], dtype=np.int64)
        blocks = (
            np.asarray(holding_kind)[:, None] * self.per_holding + np.arange(self.per_holding),
            small.first_rank + np.asarray(rank_kind)[:, None] * len(RankSlot) + np.arange(len(RankSlot)),
            small.first_pair + 2 * pair_kind[:, None] + np.arange(2),
            small.first_message + np.arange(len(self.messages)),
        )
        return small, np.concatenate([block.reshape(-1) for block in blocks])
