"""The compiled engine's loops, for numba: import it late, for it takes a third of a second.

What they compile to is kept on disk beside this file, or in the user's cache folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np
from numba import njit

from simulator.engines import contention_loop, stream_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.workload.program import Floats, Ints

P = ParamSpec("P")
R = TypeVar("R")


def _compiled(function: Callable[P, R]) -> Callable[P, R]:
    try:
        result: Callable[P, R] = njit(cache=True, nogil=True)(function)
    except RuntimeError:  # nowhere to write
        result = njit(nogil=True)(function)
    return result


run_streams = _compiled(stream_loop.run_streams)


@_compiled
def follow(
    waiting: Ints, bounds: Ints, successor: Ints, seconds: Floats, start_s: Floats, order: Ints
) -> int:
    """Let nodes end one after the other, each after all that it waits for; return how many did.

    Args:
        waiting: Edges that end at each node.
        bounds: Where each node's successors begin and end.
        successor: Successors.
        seconds: Seconds of each node.
        start_s: Zeros; becomes the start of each node.
        order: Becomes the nodes in the order in which they ended.
    """
    left = waiting.copy()
    count = 0
    for node in range(len(left)):
        if left[node] == 0:
            order[count] = node
            count += 1
    done = 0
    while done < count:
        node = order[done]
        done += 1
        end = start_s[node] + seconds[node]
        for edge in range(bounds[node], bounds[node + 1]):
            later = successor[edge]
            start_s[later] = max(start_s[later], end)
            left[later] -= 1
            if left[later] == 0:
                order[count] = later
                count += 1
    return count


@_compiled
def meet(flows: Ints, route_start: Ints, route: Ints, start_s: Floats, end_s: Floats, last_s: Floats) -> bool:
    """Tell whether a flow starts on a link before the one ahead of it has ended there.

    Args:
        flows: Ops that move something, in order of their start.
        route_start: Where the links of each op begin in ``route``.
        route: Links.
        start_s: Start of each flow.
        end_s: End of each flow.
        last_s: Zeros; becomes the end of the last flow on each link.
    """
    for place, op in enumerate(flows):
        for link in route[route_start[op] : route_start[op + 1]]:
            if start_s[place] < last_s[link]:
                return True
            last_s[link] = end_s[place]
    return False


@_compiled
def follow_batch(
    order: Ints, bounds: Ints, predecessor: Ints, row: Ints, seconds: Floats, ends: Floats
) -> None:
    """Find the ends of all nodes for many samples at once.

    Most nodes wait for one or two others, and loops over the samples of these take half the time.

    Args:
        order: Nodes, each after all that it waits for.
        bounds: Where each node's predecessors begin and end.
        predecessor: Predecessors.
        row: Row of each node in ``seconds``.
        seconds: Seconds (rows) in each sample (columns).
        ends: Becomes the ends of nodes (rows) in each sample.
    """
    samples = seconds.shape[1]
    for node in order:
        own = row[node]
        first, last = bounds[node], bounds[node + 1]
        if first == last:
            for sample in range(samples):
                ends[node, sample] = seconds[own, sample]
        elif last - first == 1:
            before = predecessor[first]
            for sample in range(samples):
                ends[node, sample] = ends[before, sample] + seconds[own, sample]
        else:
            before, other = predecessor[first], predecessor[first + 1]
            for sample in range(samples):
                ends[node, sample] = max(ends[before, sample], ends[other, sample])
            for edge in range(first + 2, last):
                other = predecessor[edge]
                for sample in range(samples):
                    ends[node, sample] = max(ends[node, sample], ends[other, sample])
            for sample in range(samples):
                ends[node, sample] += seconds[own, sample]


@_compiled
def follow_replicas(
    order: Ints,
    bounds: Ints,
    predecessor: Ints,
    size: Ints,
    step: Ints,
    seconds: Floats,
    joined: Floats,
    row_of: Ints,
    ends: Floats,
) -> bool:
    """Find the ends of all nodes in many replicas, some of whose nodes run together.

    Args:
        order: Nodes, each after all that it waits for.
        bounds: Where each node's predecessors begin and end.
        predecessor: Predecessors.
        size: Replicas that run each node together.
        step: Distance between these replicas.
        seconds: Seconds of each node (rows) in each replica (columns).
        joined: Seconds of nodes that stand for several ops.
        row_of: Row of each node in ``joined``, -1 for those that stand for one op.
        ends: Becomes the ends.

    Returns:
        Whether all seconds were positive or zero, and finite.
    """
    replicas = seconds.shape[1]
    sound = True
    for node in order:
        own = seconds[node] if row_of[node] < 0 else joined[row_of[node]]
        first, last = bounds[node], bounds[node + 1]
        if size[node] == 1 and 0 < last - first <= 2:  # most nodes: all in one go
            before, other = predecessor[first], predecessor[last - 1]
            fine = True
            for replica in range(replicas):
                fine &= (own[replica] >= 0.0) & (own[replica] < np.inf)
                ends[node, replica] = max(ends[before, replica], ends[other, replica]) + own[replica]
            sound &= fine
            continue
        row = ends[node]
        row[:] = 0.0
        for edge in range(first, last):
            other_row = ends[predecessor[edge]]
            for replica in range(replicas):
                row[replica] = max(row[replica], other_row[replica])
        if size[node] > 1:
            own = own.copy()
            _over_groups(row, size[node], step[node])
            _over_groups(own, size[node], step[node])
        fine = True
        for replica in range(replicas):
            fine &= (own[replica] >= 0.0) & (own[replica] < np.inf)
            row[replica] += own[replica]
        sound &= fine
    return sound


@_compiled
def _over_groups(row: Floats, size: int, step: int) -> None:
    """Give every replica the largest number of its group."""
    members = min(size, len(row) // step)
    for block in range(0, len(row), members * step):
        for first in range(block, block + step):
            largest = row[first]
            for member in range(members):
                largest = max(largest, row[first + member * step])
            for member in range(members):
                row[first + member * step] = largest


add_contention = _compiled(contention_loop.add_contention)


@_compiled
def add_contention_batch(
    pass_start: Ints,
    passes: Ints,
    collective_start: Ints,
    collectives: Ints,
    slot: Ints,
    share: Floats,
    row: Ints,
    seconds: Floats,
    ends: Floats,
    lost: Floats,
) -> None:
    """Do ``add_contention`` in many samples: those of these columns that are floats have one more axis."""
    for sample in range(ends.shape[1]):
        add_contention(
            pass_start,
            passes,
            collective_start,
            collectives,
            slot,
            share[:, sample],
            row,
            seconds[:, sample],
            ends[:, sample],
            lost[:, sample],
        )


@_compiled
def hold_memory(
    pass_start: Ints,
    passes: Ints,
    slot: Ints,
    opens: Ints,
    closes: Ints,
    allocated: Floats,
    freed: Floats,
    summed: Floats,
    peak: Floats,
    both: Floats,
) -> None:
    """Find the peak of each rank's activations in many samples, and that of activations and gradients.

    Args:
        pass_start: Where the passes of each rank begin and end.
        passes: Passes in order.
        slot: Row of each op in ``allocated`` and ``freed``.
        opens: Stage whose gradients begin to exist with each pass, or -1.
        closes: Stage whose gradients are gone after it, or -1.
        allocated: Bytes that a pass takes when it starts, by slot (rows) and sample (columns).
        freed: Bytes that it gives back when it ends.
        summed: Bytes of the whole gradients of each stage (rows).
        peak: Zeros by rank (rows) and sample; becomes the peak of activations.
        both: Zeros; becomes the peak of both.
    """
    for rank in range(len(pass_start) - 1):
        for sample in range(peak.shape[1]):
            level = gradients = most = together = 0.0
            for place in range(pass_start[rank], pass_start[rank + 1]):
                row = slot[passes[place]]
                level += allocated[row, sample]
                if opens[place] >= 0:
                    gradients += summed[opens[place], sample]
                most = max(most, level)
                together = max(together, level + gradients)
                level -= freed[row, sample]
                if closes[place] >= 0:
                    gradients -= summed[closes[place], sample]
            peak[rank, sample] = most
            both[rank, sample] = together
