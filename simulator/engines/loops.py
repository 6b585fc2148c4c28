"""The compiled engine's loops, for numba: import it late, for it takes a third of a second.

What they compile to is kept on disk beside this file, or in the user's cache folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np
from numba import njit

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
def follow_batch(order: Ints, bounds: Ints, predecessor: Ints, seconds: Floats, ends: Floats) -> None:
    """Find the ends of all nodes for many samples at once.

    Args:
        order: Nodes, each after all that it waits for.
        bounds: Where each node's predecessors begin and end.
        predecessor: Predecessors.
        seconds: Seconds of each node (rows) in each sample (columns).
        ends: Becomes the ends.
    """
    samples = seconds.shape[1]
    for node in order:
        row = ends[node]
        own = seconds[node]
        first, last = bounds[node], bounds[node + 1]
        if first == last:
            row[:] = own
            continue
        before = ends[predecessor[first]]
        for sample in range(samples):
            row[sample] = before[sample]
        for edge in range(first + 1, last):
            other = ends[predecessor[edge]]
            for sample in range(samples):
                row[sample] = max(row[sample], other[sample])
        for sample in range(samples):
            row[sample] += own[sample]


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
        row = ends[node]
        own = seconds[node] if row_of[node] < 0 else joined[row_of[node]]
        row[:] = 0.0
        for edge in range(bounds[node], bounds[node + 1]):
            other = ends[predecessor[edge]]
            for replica in range(replicas):
                row[replica] = max(row[replica], other[replica])
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
