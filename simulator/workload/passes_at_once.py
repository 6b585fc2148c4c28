"""All passes of a step appended as columns, where none of them run in pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.workload.data_parallel import Segment
from simulator.workload.message_run import MessageRun
from simulator.workload.program import OpKind, Ops, Stream
from simulator.workload.ragged import distinct
from simulator.workload.schedules import Action

if TYPE_CHECKING:
    from simulator.workload.passes import PassWriter
    from simulator.workload.pieces import Pieces
    from simulator.workload.program import Ints
    from simulator.workload.work import Work


def append_at_once(writer: PassWriter, pieces: Pieces) -> dict[int, int]:
    """Append the passes of a step with their messages and collectives.

    Args:
        writer: Writes the step.
        pieces: What its passes run as.

    Returns:
        The last op of each rank's passes.
    """
    data, builder = writer.data_parallel, writer.builder
    rank = np.repeat(np.arange(len(data.order)), np.diff(data.first))
    run = MessageRun.of(writer.messages, data.passes, rank, pieces)
    first = builder.add_many(_ops(writer, pieces, run, rank))
    run.connect(first)
    part, before = data.waits(pieces)
    builder.wait_all(first + run.parts[part], before)
    reducing = rank[run.owner[run.collectives]].tolist()
    for each, op in zip(reducing, (first + run.collectives).tolist(), strict=True):
        data.reduced[each].append(op)
    last_parts = run.parts[run.last[data.first[1:] - 1]]
    return dict(enumerate((first + last_parts).tolist()))


def _ops(writer: PassWriter, pieces: Pieces, run: MessageRun, rank: Ints) -> Ops:
    """Return parts of passes, collectives and messages in their order."""
    passes = writer.data_parallel.passes
    of_part = run.owner[run.parts]
    alike, which = _alike(writer, pieces, rank, of_part)
    taken = np.array([writer.bytes_of(action, segment) for _, action, segment in alike])
    allocated, freed = taken.T[:, which]
    messages, of_message = run.works()
    works: list[Work] = [writer.sequence(*each) for each in alike]
    number_of = writer.builder.number_works([*works, *messages, *pieces.collectives])
    of_messages, of_collectives = np.split(number_of[len(works) :], [len(messages)])
    return Ops(
        kind=run.filled(OpKind.TRANSFER, passes.kind[of_part], OpKind.COLLECTIVE),
        rank=rank[run.owner],
        stream=run.filled(run.stream, Stream.COMPUTE, Stream.DP_REDUCE),
        work=run.filled(of_messages[of_message], number_of[which], of_collectives),
        microbatch=run.filled(passes.microbatch[run.owner[run.places]], passes.microbatch[of_part], -1),
        stage=run.filled(run.stage, passes.stage[of_part], pieces.stage),
        join=np.full(len(run.owner), -1),
        allocated_bytes=run.filled(0.0, allocated, 0.0),
        freed_bytes=run.filled(0.0, freed, 0.0),
    )


def _alike(
    writer: PassWriter, pieces: Pieces, rank: Ints, of_part: Ints
) -> tuple[list[tuple[int, Action, Segment]], Ints]:
    """Return the different parts of passes, each with a rank that runs it; and which of them each part is.

    Args:
        writer: Writes the step.
        pieces: What its passes run as.
        rank: Rank of each pass.
        of_part: Pass of each part.
    """
    data, stages = writer.data_parallel, writer.stages
    buckets = 2 + int(pieces.number.max(initial=-1))
    runner = rank * bool(writer.scenario.cluster.pools)  # only then it matters whose hardware runs it
    code = (runner * len(OpKind) + data.passes.kind) * len(stages) + data.alike[data.passes.stage]
    codes, which = distinct(code[of_part] * buckets + pieces.number + 1)
    alike = []
    for each in codes.tolist():
        whole, number = divmod(each, buckets)
        kind, stage = divmod(whole, len(stages))
        holder, kind = divmod(kind, len(OpKind))
        works = data.bucket_works(stage, number - 1) if number else stages[stage].works
        alike.append((holder, Action(OpKind(kind), stage, 0), Segment(works=works, number=number - 1)))
    return alike, which
