"""How long each stage's passes take, read off a priced program: what automatic schedulers go by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.schedules import StageTimes
from simulator.workload.program import OpKind, Program
from simulator.workload.work import Transfer

if TYPE_CHECKING:
    from simulator.engines.durations import Durations
    from simulator.workload.program import Floats


def stage_times(program: Program, durations: Durations, stages: int, num_microbatches: int) -> StageTimes:
    """Return the mean seconds of each stage's passes and of a message, and what weight gradients hold.

    A backward pass that is not split counts as its input gradient.
    """
    seconds = durations.alone_s()

    def of(*kinds: OpKind) -> tuple[float, ...]:
        ops = np.flatnonzero(np.isin(program.kind, kinds))
        sums = np.zeros(stages)
        np.add.at(sums, program.stage[ops], seconds[ops])
        return tuple((sums / num_microbatches).tolist())

    def mean(kind: OpKind) -> float:
        ops = program.kind == kind
        return float(seconds[ops].mean()) if ops.any() else 0.0

    is_message = np.asarray(
        [isinstance(work, Transfer) and not work.receives for work in program.works], dtype=np.bool_
    )
    messages = seconds[is_message[program.work]]
    return StageTimes(
        forward=of(OpKind.FORWARD),
        backward_input=of(OpKind.BACKWARD_INPUT, OpKind.BACKWARD),
        backward_weight=of(OpKind.BACKWARD_WEIGHT),
        message=float(messages.mean()) if len(messages) else 0.0,
        output=(mean(OpKind.OUTPUT_FORWARD), mean(OpKind.OUTPUT_BACKWARD)),
        weight_share=_weight_share(program, stages),
    )


def _weight_share(program: Program, stages: int) -> float:
    """Return the part of what forward passes keep that weight gradients free; more than all counts as all.

    The median over stages: first and last ones hold logits and tables.
    """

    def by_stage(sizes: Floats, kind: OpKind) -> Floats:
        ops = np.flatnonzero(program.kind == kind)
        sums = np.zeros(stages)
        np.add.at(sums, program.stage[ops], sizes[ops])
        return sums

    kept = by_stage(program.allocated_bytes, OpKind.FORWARD)
    waits = by_stage(program.freed_bytes, OpKind.BACKWARD_WEIGHT)
    shares = np.divide(waits, kept, out=np.ones(stages), where=kept > 0)
    return float(min(1.0, np.median(shares)))
