"""The loop that runs a program stream by stream: plain Python that numba can compile (see ``loops``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence


def run_streams(  # noqa: C901, PLR0912, PLR0915  one loop, for numba
    queue_start: Sequence[int],
    queued: Sequence[int],
    dependency_start: Sequence[int],
    dependency: Sequence[int],
    seconds: Sequence[float],
    joint: Sequence[int],
    missing: MutableSequence[int],
    member_start: Sequence[int],
    member: Sequence[int],
    joint_s: Sequence[float],
    waiter: MutableSequence[int],
    start_s: MutableSequence[float],
    end_s: MutableSequence[float],
) -> None:
    """Let every op run that can.

    Args:
        queue_start: Where each stream's ops begin in ``queued``, and where the last one's end.
        queued: Ops, stream by stream.
        dependency_start: Where the ops that each op waits for begin in ``dependency``.
        dependency: What ops wait for.
        seconds: Seconds of each op.
        joint: Join of each op, or -1.
        missing: Ops of each join; becomes how many of them are not ready.
        member_start: Where the ops of each join begin in ``member``.
        member: Ops, join by join.
        joint_s: Seconds of each join.
        waiter: -1 for each op; becomes the last stream that waits for it.
        start_s: Zeros; becomes the start of each op.
        end_s: Negative numbers; becomes the end of each op that ends.
    """
    streams = len(queue_start) - 1
    place = [0] * streams  # of the op that each stream is at
    edge = [0] * streams  # of its first dependency that may not have ended
    also = [-1] * streams  # stream that waits for the same op
    ready = [0] * 0
    for stream in range(streams):
        place[stream] = queue_start[stream]
        if queue_start[stream] < queue_start[stream + 1]:
            edge[stream] = dependency_start[queued[queue_start[stream]]]
            ready.append(stream)
    while ready:
        stream = ready.pop()
        at, end_of_stream = place[stream], queue_start[stream + 1]
        while at < end_of_stream:
            op = queued[at]
            if end_s[op] < 0.0:  # else its join has ended it
                start, here, after = start_s[op], edge[stream], dependency_start[op + 1]
                while here < after and end_s[dependency[here]] >= 0.0:
                    if end_s[dependency[here]] > start:  # noqa: PLR1730  a call takes longer
                        start = end_s[dependency[here]]
                    here += 1
                start_s[op] = start
                awaited = dependency[here] if here < after else -1
                join = joint[op]
                if awaited < 0 and join >= 0:
                    missing[join] -= 1
                    awaited = op if missing[join] else -1
                if awaited >= 0:
                    edge[stream] = here
                    also[stream], waiter[awaited] = waiter[awaited], stream
                    break
                if join < 0:
                    end_s[op] = start + seconds[op]
                    woken = waiter[op]
                    while woken >= 0:
                        ready.append(woken)
                        woken = also[woken]
                else:
                    first, last = member_start[join], member_start[join + 1]
                    for other in member[first:last]:
                        start = max(start, start_s[other])
                    for other in member[first:last]:
                        start_s[other] = start
                        end_s[other] = start + joint_s[join]
                        woken = waiter[other]
                        while woken >= 0:
                            ready.append(woken)
                            woken = also[woken]
            at += 1
            if at < end_of_stream:
                start_s[queued[at]] = end_s[op]
                edge[stream] = dependency_start[queued[at]]
        place[stream] = at
