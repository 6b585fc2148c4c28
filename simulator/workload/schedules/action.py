"""One entry of a pipeline schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from simulator.workload.program import OpKind


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
