"""Exchanges around passes S and T of an output layer that all pipeline ranks share (arXiv:2411.05288).

The last stage's result goes to all ranks (broadcast), each makes its logits and sums (S), the ranks add these
up (sum), each makes its part of the gradients (T). In ``vocab-1`` T makes the input gradient, which a further
exchange adds up (gradient); in ``vocab-2`` the sum carries it already. Of one micro-batch, on the rank of the
last stage and on another one:

    last rank    F   broadcast   S   sum   T   gradient   B
    other rank       broadcast   S   sum   T   gradient
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.schedules.op_kind import OpKind
from simulator.workload.program import Stream
from simulator.workload.step.data_parallel import AttachedOps
from simulator.workload.step.segments import is_one_of
from simulator.workload.step.slots import RankSlot

if TYPE_CHECKING:
    from simulator.workload.pipeline import Pipeline
    from simulator.workload.program import Ints
    from simulator.workload.step.segments import PassTable, Segments
    from simulator.workload.step.slots import Slots

_FIRST_JOIN = 1_000_000
"""Joins of the output layer are numbered from here, three for each micro-batch."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutputExchanges:
    """Passes S and T with the exchanges around them; one broadcast and one sum for each S.

    Attributes:
        broadcast: The last stage's results on their way to all ranks.
        sum: Sums over all ranks after S.
        gradient: Sums of input gradients over all ranks after T; none where the sum after S carries them.
        forward: [S] Segment.
        backward: [T] Segment.
        sum_of_backward: [T] The sum (by its S) that it waits for.
        first: [last stage's forward pass] The broadcast that waits for it.
        last_forward: The last stage's forward passes.
        last_backward: The last stage's backward passes, or its input gradients.
        exchange_of_last_backward: [last backward] The gradient (by its T), or the sum, that it waits for.
    """

    broadcast: AttachedOps
    sum: AttachedOps
    gradient: AttachedOps
    forward: Ints
    backward: Ints
    sum_of_backward: Ints
    first: Ints
    last_forward: Ints
    last_backward: Ints
    exchange_of_last_backward: Ints

    def ops(self) -> dict[str, AttachedOps]:
        """Return the exchanges by sort."""
        return {"broadcast": self.broadcast, "sum": self.sum, "gradient": self.gradient}


def output_exchanges(pipeline: Pipeline, segments: Segments, slots: Slots) -> OutputExchanges | None:
    """Return the exchanges of a divided output layer, or None where the last stage runs it."""
    if pipeline.vocabulary == "none":
        return None
    passes = segments.passes
    runs_s, runs_t = (
        np.flatnonzero(passes.kind == kind) for kind in (OpKind.OUTPUT_FORWARD, OpKind.OUTPUT_BACKWARD)
    )
    forward, backward = segments.pass_start[runs_s], segments.pass_start[runs_t]
    is_last = passes.stage == pipeline.stages - 1
    last_forward = np.flatnonzero(is_last & (passes.kind == OpKind.FORWARD))
    last_backward = np.flatnonzero(is_last & is_one_of(passes.kind, (OpKind.BACKWARD, OpKind.BACKWARD_INPUT)))
    sums_gradient = pipeline.vocabulary != "vocab-2"
    of_s, of_t = _by_rank_and_microbatch(passes, runs_s), _by_rank_and_microbatch(passes, runs_t)
    exchange = of_t if sums_gradient else of_s
    return OutputExchanges(
        broadcast=_exchanges(segments, forward, slots, RankSlot.OUTPUT_BROADCAST, Stream.TP),
        sum=_exchanges(segments, forward, slots, RankSlot.OUTPUT_SUM, Stream.CP),
        gradient=_exchanges(
            segments, backward if sums_gradient else backward[:0], slots, RankSlot.OUTPUT_GRADIENT, Stream.EP
        ),
        forward=forward,
        backward=backward,
        sum_of_backward=of_s[passes.rank[runs_t], passes.microbatch[runs_t]],
        first=of_s[passes.rank[last_forward], passes.microbatch[last_forward]],
        last_forward=last_forward,
        last_backward=last_backward,
        exchange_of_last_backward=exchange[passes.rank[last_backward], passes.microbatch[last_backward]],
    )


def _exchanges(
    segments: Segments, segment: Ints, slots: Slots, slot: RankSlot, stream: Stream
) -> AttachedOps:
    """Return one exchange over all ranks for each of some passes S or T."""
    microbatch = segments.passes.microbatch[segments.pass_[segment]]
    return AttachedOps(
        group=segments.group[segment],
        slot=slots.of_rank(segments.rank[segment], slot),
        kind=np.full(len(segment), OpKind.COLLECTIVE),
        stream=np.full(len(segment), stream),
        stage=np.full(len(segment), -1),
        microbatch=microbatch,
        join=_FIRST_JOIN + 3 * microbatch + (slot - RankSlot.OUTPUT_BROADCAST),
    )


def _by_rank_and_microbatch(passes: PassTable, chosen: Ints) -> Ints:
    """Return a table of places in ``chosen`` by rank and micro-batch."""
    table = np.full((passes.ranks, 1 + int(passes.microbatch.max(initial=0))), -1)
    table[passes.rank[chosen], passes.microbatch[chosen]] = np.arange(len(chosen))
    return table
