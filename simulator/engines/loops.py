"""The compiled engine's loops, for numba: import it late, for it takes a third of a second.

What they compile to is kept on disk beside this file, or in the user's cache folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

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
