"""A pipeline schedule by itself, with passes of given lengths: for pictures and for comparing schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.engines import event
from simulator.engines.durations import Durations
from simulator.schedules.chains import needed, split_backward_passes
from simulator.workload.pipeline import plain
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.work import StepOverhead

if TYPE_CHECKING:
    from simulator.engines.timeline import Timeline
    from simulator.schedules import Action, Order, StageTimes


def schedule_timeline(order: Order, times: StageTimes) -> Timeline:
    """Run a schedule's passes and nothing else; overlapped pairs run one after the other.

    Raises:
        DeadlockError: Passes wait for each other for ever.
    """
    builder = ProgramBuilder(rank_names=tuple(f"pp {rank}" for rank in range(len(order))))
    ops: dict[Action, int] = {}
    ranks: dict[Action, int] = {}
    for rank, actions in enumerate(plain(order)):
        for action in actions:
            kind, stage, microbatch = action
            ops[action] = builder.add(
                kind, rank, Stream.COMPUTE, StepOverhead(), stage=stage, microbatch=microbatch
            )
            ranks[action] = rank
    seconds = [_length(action, times) for action in ops]
    splits = split_backward_passes(order)
    pairs = [(needed(action, len(times.forward), splits), action) for action in ops]
    # Messages of a rank leave in the order in which their passes end.
    ordered = sorted((ops[before], before, action) for before, action in pairs if before is not None)
    messages = 0
    for waits, before, action in ordered:
        if ranks[before] == ranks[action] or not times.message:
            builder.wait(ops[action], (waits,))
            continue
        stream = Stream.PP_FORWARD if before.kind is OpKind.FORWARD else Stream.PP_BACKWARD
        sent = builder.add(OpKind.TRANSFER, ranks[before], stream, StepOverhead("p2p"), after=(waits,))
        builder.wait(ops[action], (sent,))
        messages += 1
    return event.run(builder.build(), Durations.of(np.asarray([*seconds, *[times.message] * messages])))


def _length(action: Action, times: StageTimes) -> float:
    kind, stage, _ = action
    if kind is OpKind.FORWARD:
        return times.forward[stage]
    if kind is OpKind.BACKWARD_INPUT:
        return times.backward_input[stage]
    if kind is OpKind.BACKWARD_WEIGHT:
        return times.backward_weight[stage]
    return times.backward_input[stage] + times.backward_weight[stage]
