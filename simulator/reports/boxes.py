"""The boxes of a pipeline picture: ops of one pass that follow each other without a gap are one box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulator.engines.timeline import Timeline
    from simulator.workload.program import Floats, Ints

_GAP = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """Boxes of one rank, as columns.

    Attributes:
        start_s: Left border.
        end_s: Right border.
        kind: ``OpKind`` of the ops inside.
        microbatch: Their micro-batch, -1 where there is none.
    """

    start_s: Floats
    end_s: Floats
    kind: Ints
    microbatch: Ints

    def select(self, chosen: NDArray[np.bool_]) -> Boxes:
        """Return the boxes that are chosen."""
        return Boxes(
            start_s=self.start_s[chosen],
            end_s=self.end_s[chosen],
            kind=self.kind[chosen],
            microbatch=self.microbatch[chosen],
        )


def boxes_of(timeline: Timeline, ops: Ints) -> Boxes:
    """Join ops that belong to the same pass (kind, micro-batch, stage) where one starts as the other ends.

    A pass comes in pieces where gradient buckets become ready inside it.

    Args:
        timeline: What happened.
        ops: Ops of one stream in the order of their start.
    """
    program = timeline.program
    passes = np.stack([program.kind[ops], program.microbatch[ops], program.stage[ops]])
    is_new = np.ones(len(ops), dtype=bool)
    start_s, end_s = timeline.start_s[ops], timeline.end_s[ops]
    gap = start_s[1:] - end_s[:-1]
    is_new[1:] = (passes[:, 1:] != passes[:, :-1]).any(axis=0) | (gap > _GAP * timeline.makespan_s)
    first = np.flatnonzero(is_new)
    last = np.append(first[1:], len(ops)) - 1 if len(ops) else first
    return Boxes(
        start_s=start_s[first],
        end_s=end_s[last],
        kind=program.kind[ops[first]],
        microbatch=program.microbatch[ops[first]],
    )
