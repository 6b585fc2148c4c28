"""What the passes of a step run as where some are cut into parts, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.ragged import ranges

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.workload.program import Bools, Ints
    from simulator.workload.work import Collective

Part = tuple[int, "Sequence[Collective]", "Sequence[int]"]
"""A part of a pass, by its bucket (-1: the whole pass), the collectives that follow it, and their stages."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pieces:
    """The ops of all passes, one pass behind the other: its parts, each with the collectives that follow it.

    Attributes:
        count: Ops of each pass; the first is a part.
        is_part: Whether each op is a part of a pass rather than a collective.
        number: Bucket of each part, -1 for a whole pass.
        first_part: First part of each pass.
        collectives: Work of each collective.
        stage: Stage of each collective.
    """

    count: Ints
    is_part: Bools
    number: Ints
    first_part: Ints
    collectives: Sequence[Collective]
    stage: Ints

    @classmethod
    def of(cls, passes: int, cut: Mapping[int, Sequence[Part]]) -> Pieces:
        """Put passes that are cut, by their places in ascending order, among others that run whole.

        >>> pieces = Pieces.of(3, {1: [(1, (), ()), (0, (), ())]})
        >>> pieces.count.tolist(), pieces.number.tolist(), pieces.first_part.tolist()
        ([1, 2, 1], [-1, 1, 0, -1], [0, 1, 3])
        """
        at = np.fromiter(cut, dtype=np.int64, count=len(cut))
        parts = np.ones(passes, dtype=np.int64)
        parts[at] = [len(mine) for mine in cut.values()]
        first_part = np.cumsum(parts) - parts
        every = [part for mine in cut.values() for part in mine]
        places = ranges(first_part[at], parts[at])
        number = np.full(int(parts.sum()), -1)
        number[places] = [bucket for bucket, *_ in every]
        follow = np.zeros(len(number), dtype=np.int64)
        follow[places] = [len(works) for _, works, _ in every]
        collectives = [work for _, works, _ in every for work in works]
        before = np.cumsum(1 + follow) - follow - 1
        is_part = np.zeros(len(number) + len(collectives), dtype=np.bool_)
        is_part[before] = True
        return cls(
            count=np.add.reduceat(1 + follow, first_part),
            is_part=is_part,
            number=number,
            first_part=first_part,
            collectives=collectives,
            stage=np.array([stage for *_, stages in every for stage in stages], dtype=np.int64),
        )
