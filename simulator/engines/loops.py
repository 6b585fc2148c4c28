"""The engines' loops, written once: plain Python that numba can compile (see ``jit``).

Lists of lists lie in two columns, as the streams of this program of two streams and four ops do:

    queue_start   0     2     4        where each stream begins in ``queued``, and where the last one ends
    queued        0  2  1  3           ops, stream by stream in their order: 0 and 2, then 1 and 3

``dependency_start`` and ``dependency`` and all other pairs of this kind read in the same way. Tables have a
row for each node or slot and a column for each sample or replica.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence

    from simulator.workload.program import Floats, Ints


def run_streams(  # noqa: C901, PLR0912, PLR0915  one loop, for numba
    queue_start: Sequence[int],
    queued: Sequence[int],
    dependency_start: Sequence[int],
    dependency: Sequence[int],
    seconds: Sequence[float],
    join: Sequence[int],
    member_start: Sequence[int],
    member: Sequence[int],
    join_s: Sequence[float],
    missing: MutableSequence[int],
    waiter: MutableSequence[int],
    start_s: MutableSequence[float],
    end_s: MutableSequence[float],
    order: MutableSequence[int],
) -> int:
    """Let every op run that can: each stream goes on until an op of another one keeps it waiting.

    Args:
        queue_start: [stream + 1] Where each stream's ops begin in ``queued``.
        queued: Ops, stream by stream.
        dependency_start: [op + 1] Where the ops that an op waits for begin in ``dependency``.
        dependency: What ops wait for.
        seconds: [op] s
        join: [op] Join of each op, or -1.
        member_start: [join + 1] Where the ops of each join begin in ``member``.
        member: Ops, join by join.
        join_s: [join] s
        missing: [join] Number of its ops; becomes how many of them are not ready.
        waiter: [op] -1; becomes the last stream that waits for it.
        start_s: [op] Zeros; becomes the start of each op.
        end_s: [op] Negative numbers; becomes the end of each op that ends.
        order: [op] Becomes the ops that end, each after all that it waits for.

    Returns:
        How many ops end.
    """
    done = 0
    streams = len(queue_start) - 1
    position = [0] * streams  # of the op that each stream is at
    edge = [0] * streams  # of its first dependency that may not have ended
    next_waiter = [-1] * streams  # stream that waits for the same op
    ready = [0] * 0
    for stream in range(streams):
        position[stream] = queue_start[stream]
        if queue_start[stream] < queue_start[stream + 1]:
            edge[stream] = dependency_start[queued[queue_start[stream]]]
            ready.append(stream)
    while ready:
        stream = ready.pop()
        at, end_of_stream = position[stream], queue_start[stream + 1]
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
                if awaited < 0 and join[op] >= 0:
                    missing[join[op]] -= 1
                    awaited = op if missing[join[op]] else -1
                if awaited >= 0:
                    edge[stream] = here
                    next_waiter[stream], waiter[awaited] = waiter[awaited], stream
                    break
                if join[op] < 0:
                    end_s[op] = start + seconds[op]
                    order[done] = op
                    done += 1
                    woken = waiter[op]
                    while woken >= 0:
                        ready.append(woken)
                        woken = next_waiter[woken]
                else:
                    first, last = member_start[join[op]], member_start[join[op] + 1]
                    for partner in member[first:last]:
                        start = max(start, start_s[partner])
                    for partner in member[first:last]:
                        start_s[partner] = start
                        end_s[partner] = start + join_s[join[op]]
                        order[done] = partner
                        done += 1
                        woken = waiter[partner]
                        while woken >= 0:
                            ready.append(woken)
                            woken = next_waiter[woken]
            at += 1
            if at < end_of_stream:
                start_s[queued[at]] = end_s[op]
                edge[stream] = dependency_start[queued[at]]
        position[stream] = at
    return done


def any_overlap(
    flows: Sequence[int],
    route_start: Sequence[int],
    route: Sequence[int],
    start_s: Sequence[float],
    end_s: Sequence[float],
    link_end_s: MutableSequence[float],
) -> bool:
    """Tell whether a flow starts on a link before the one ahead of it has ended there.

    Args:
        flows: [flow] Ops that move something, in order of their start.
        route_start: [op + 1] Where the links of each op begin in ``route``.
        route: Links.
        start_s: [flow] s
        end_s: [flow] s
        link_end_s: [link] Zeros; becomes the end of the last flow on each link.
    """
    for index in range(len(flows)):
        op = flows[index]
        for link in route[route_start[op] : route_start[op + 1]]:
            if start_s[index] < link_end_s[link]:
                return True
            link_end_s[link] = end_s[index]
    return False


def add_contention(
    pass_start: Sequence[int] | Ints,
    passes: Sequence[int] | Ints,
    collective_start: Sequence[int] | Ints,
    collectives: Sequence[int] | Ints,
    slot: Sequence[int] | Ints,
    share: Sequence[float] | Floats,
    row: Sequence[int] | Ints,
    seconds: Sequence[float] | Floats,
    end_s: Sequence[float] | Floats,
    lost_s: MutableSequence[float] | Floats,
) -> None:
    """Add up what passes lose to the collectives that run at the same time.

    Args:
        pass_start: [rank + 1] Where the passes of each rank begin in ``passes``.
        passes: Passes, rank by rank in order.
        collective_start: [rank x stream + 1] Where the collectives of each rank and stream begin.
        collectives: Collectives, rank by rank and stream by stream in order.
        slot: [op] Slot of each op.
        share: [slot] Share of matrix kernels in a pass, or of the SMs that a collective holds.
        row: [op] Row of each op in ``seconds``.
        seconds: [row] Seconds of ops when they ran.
        end_s: [op] End of each op.
        lost_s: [pass] Zeros; becomes the seconds that each of ``passes`` loses.
    """
    streams = (len(collective_start) - 1) // (len(pass_start) - 1)
    for queue in range(len(collective_start) - 1):
        first, last = pass_start[queue // streams], pass_start[queue // streams + 1]
        for index in range(collective_start[queue], collective_start[queue + 1]):
            collective = collectives[index]
            held = share[slot[collective]]
            if held == 0.0:
                continue
            end = end_s[collective]
            start = end - seconds[row[collective]]
            while first < last and end_s[passes[first]] <= start:
                first += 1
            at = first
            while at < last:
                op = passes[at]
                begin = end_s[op] - seconds[row[op]]
                if begin >= end:
                    break
                overlap = min(end_s[op], end) - max(begin, start)
                if overlap > 0.0:
                    lost_s[at] += overlap * held * share[slot[op]]
                at += 1


def add_contention_batch(
    pass_start: Ints,
    passes: Ints,
    collective_start: Ints,
    collectives: Ints,
    slot: Ints,
    share: Floats,
    row: Ints,
    seconds: Floats,
    end_s: Floats,
    lost_s: Floats,
) -> None:
    """Do ``add_contention`` in many samples: columns of floats have one more axis, [..., sample]."""
    for sample in range(end_s.shape[1]):
        add_contention(
            pass_start,
            passes,
            collective_start,
            collectives,
            slot,
            share[:, sample],
            row,
            seconds[:, sample],
            end_s[:, sample],
            lost_s[:, sample],
        )


def peak_memory(
    pass_start: Ints,
    passes: Ints,
    slot: Ints,
    opens: Ints,
    closes: Ints,
    allocated: Floats,
    freed: Floats,
    gradients: Floats,
    activations_peak: Floats,
    peak: Floats,
) -> None:
    """Find the peak of each rank's activations in many samples, and that of activations and gradients.

    Args:
        pass_start: [rank + 1] Where the passes of each rank begin in ``passes``.
        passes: Passes, rank by rank in order.
        slot: [op] Row of each op in ``allocated`` and ``freed``.
        opens: [pass] Stage whose gradients begin to exist with the pass, or -1.
        closes: [pass] Stage whose gradients are gone after it, or -1.
        allocated: [slot, sample] Bytes that a pass takes when it starts.
        freed: [slot, sample] Bytes that it gives back when it ends.
        gradients: [stage, sample] Bytes of a stage's whole gradients.
        activations_peak: [rank, sample] Becomes the peak of activations, in bytes.
        peak: [rank, sample] Becomes the peak of both together, in bytes.
    """
    for rank in range(len(pass_start) - 1):
        for sample in range(peak.shape[1]):
            held = held_gradients = most = most_together = 0.0
            for at in range(pass_start[rank], pass_start[rank + 1]):
                row = slot[passes[at]]
                held += allocated[row, sample]
                if opens[at] >= 0:
                    held_gradients += gradients[opens[at], sample]
                most = max(most, held)
                most_together = max(most_together, held + held_gradients)
                held -= freed[row, sample]
                if closes[at] >= 0:
                    held_gradients -= gradients[closes[at], sample]
            activations_peak[rank, sample] = most
            peak[rank, sample] = most_together


def longest_path_batch(
    order: Ints,
    predecessor_start: Ints,
    predecessor_end: Ints,
    predecessor: Ints,
    row: Ints,
    seconds: Floats,
    end_s: Floats,
) -> None:
    """Find the ends of all nodes for many samples at once.

    Args:
        order: Nodes, each after all that it waits for.
        predecessor_start: [node] Where the nodes that a node waits for begin in ``predecessor``.
        predecessor_end: [node] Where they end.
        predecessor: Nodes that others wait for.
        row: [node] Row of each node in ``seconds``.
        seconds: [row, sample] s
        end_s: [node, sample] Becomes the ends of nodes.
    """
    for node in order:
        first, last = predecessor_start[node], predecessor_end[node]
        if first == last:
            end_s[node] = seconds[row[node]]
            continue
        latest = predecessor[first]
        for edge in range(first + 1, last - 1):
            later_of_rows(end_s, node, latest, predecessor[edge])
            latest = node
        run_after(end_s, node, latest, predecessor[last - 1], seconds[row[node]])


def longest_path_of_replicas(
    order: Ints,
    predecessor_start: Ints,
    predecessor_end: Ints,
    predecessor: Ints,
    size: Ints,
    stride: Ints,
    seconds: Floats,
    joins: Floats,
    join: Ints,
    end_s: Floats,
) -> bool:
    """Find the ends of all nodes in many replicas, some of whose nodes run together.

    Args:
        order: Nodes, each after all that it waits for.
        predecessor_start: [node] Where the nodes that a node waits for begin in ``predecessor``.
        predecessor_end: [node] Where they end.
        predecessor: Nodes that others wait for.
        size: [node] Replicas that run a node together.
        stride: [node] Distance between these replicas.
        seconds: [node, replica] s
        joins: [join, replica] Seconds of nodes that stand for several ops.
        join: [node] Row of a node in ``joins``, -1 for nodes that stand for one op.
        end_s: [node, replica] Becomes the ends.

    Returns:
        Whether all seconds were positive or zero, and finite.
    """
    sound = True
    for node in order:
        own = seconds[node] if join[node] < 0 else joins[join[node]]
        sound &= all_durations(own)
        first, last = predecessor_start[node], predecessor_end[node]
        end = end_s[node]
        if first == last:
            end[:] = 0.0
        else:
            latest = predecessor[first]
            for edge in range(first + 1, last - 1):
                later_of_rows(end_s, node, latest, predecessor[edge])
                latest = node
            if size[node] == 1:
                run_after(end_s, node, latest, predecessor[last - 1], own)
                continue
            later_of_rows(end_s, node, latest, predecessor[last - 1])
        if size[node] > 1:
            own = own.copy()
            spread_largest(end, size[node], stride[node])
            spread_largest(own, size[node], stride[node])
        end += own
    return sound


def later_of_rows(table: Floats, row: int, first: int, second: int) -> None:
    """Set a row to the larger of two rows, column by column."""
    np.maximum(table[first], table[second], out=table[row])


def run_after(end_s: Floats, node: int, first: int, second: int, seconds: Floats) -> None:
    """Let a node run after two others, in every column."""
    np.add(np.maximum(end_s[first], end_s[second]), seconds, out=end_s[node])


def all_durations(seconds: Floats) -> bool:
    """Tell whether all of a row are positive or zero, and finite."""
    return bool(seconds.min() >= 0.0) and bool(seconds.max() < np.inf)  # False for a nan too


def spread_largest(values: Floats, size: int, stride: int) -> None:
    """Give every member of a group of ``size`` replicas, ``stride`` apart, the group's largest value."""
    members = values.reshape(-1, min(size, len(values) // stride), stride)
    members[:] = members.max(axis=1)[:, None, :]
