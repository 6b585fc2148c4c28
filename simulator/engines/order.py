"""Nodes of a graph in an order in which they can end, and longest paths along it.

The loops exist twice: compiled by numba, which is optional and slow to import, and as they are. Both add and
compare the same numbers in the same way, so that their results are the same to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.engines.jit import loops

if TYPE_CHECKING:
    from simulator.engines.graph import Graph
    from simulator.workload.program import Floats, Ints


def follow(graph: Graph, seconds: Floats) -> tuple[Floats, Ints]:
    """Return the start of each node, and the nodes in an order in which they end.

    Nodes that wait for each other for ever are missing from the order; their starts mean nothing.
    """
    count = len(graph.node)
    compiled = loops(count)
    if compiled is None:
        return _follow(graph, seconds)
    start_s, order = np.zeros(count), np.empty(count, dtype=np.int64)
    done = compiled.follow(graph.waiting, graph.successor_start, graph.successor, seconds, start_s, order)
    return start_s, order[:done]


def _follow(graph: Graph, seconds: Floats) -> tuple[Floats, Ints]:
    flat, own, left = graph.successor.tolist(), seconds.tolist(), graph.waiting.tolist()
    bounds = graph.successor_start.tolist()
    start_s = [0.0] * len(own)
    order = [node for node, edges in enumerate(left) if not edges]
    for node in order:  # grows
        end = start_s[node] + own[node]
        for later in flat[bounds[node] : bounds[node + 1]]:
            if end > start_s[later]:  # noqa: PLR1730  a call takes longer than all the rest
                start_s[later] = end
            left[later] -= 1
            if not left[later]:
                order.append(later)
    return np.array(start_s), np.array(order, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What nodes wait for, in an order in which they can end.

    Attributes:
        nodes: All nodes, each after all that it waits for; fewer where some wait for ever.
        predecessor_start: Nodes ``predecessor[predecessor_start[i]:predecessor_start[i + 1]]`` end before
            node ``i`` starts.
        predecessor: See ``predecessor_start``.
    """

    nodes: Ints
    predecessor_start: Ints
    predecessor: Ints

    @classmethod
    def of(cls, graph: Graph) -> Order:
        """Return the order of a graph."""
        count = len(graph.node)
        _, nodes = follow(graph, np.zeros(count))
        start = np.zeros(count + 1, dtype=np.int64)
        np.cumsum(graph.waiting, out=start[1:])
        before = np.repeat(np.arange(count), np.diff(graph.successor_start))
        predecessor = before[np.argsort(graph.successor, kind="stable")]
        return cls(nodes=nodes, predecessor_start=start, predecessor=predecessor)

    def ends(self, row: Ints, seconds: Floats) -> Floats:
        """Return the end of each node (rows) in each sample (columns), all of them in the order.

        Args:
            row: [node] Row of each node in ``seconds``.
            seconds: [row, sample] Seconds.
        """
        ends = np.empty((len(row), seconds.shape[1]))
        compiled = loops(ends.size)
        if compiled is None:
            self._ends(row, seconds, ends)
        else:
            compiled.follow_batch(self.nodes, self.predecessor_start, self.predecessor, row, seconds, ends)
        return ends

    def _ends(self, row: Ints, seconds: Floats, ends: Floats) -> None:
        bounds, predecessors = self.predecessor_start.tolist(), self.predecessor.tolist()
        for node in self.nodes.tolist():
            end = ends[node]
            others = predecessors[bounds[node] : bounds[node + 1]]
            if not others:
                end[:] = seconds[row[node]]
                continue
            latest = ends[others[0]]
            for other in others[1:]:
                latest = np.maximum(latest, ends[other], out=end)
            np.add(latest, seconds[row[node]], out=end)
