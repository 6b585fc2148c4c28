"""Nodes of a graph in an order in which they can end, and longest paths along it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.engines import jit, loops

if TYPE_CHECKING:
    from simulator.engines.graph import Graph
    from simulator.workload.program import Floats, Ints


def longest_path(graph: Graph, seconds: Floats) -> tuple[Floats, Ints]:
    """Return the start of each node, and the nodes in an order in which they end.

    Nodes that wait for each other for ever are missing from the order; their starts mean nothing.
    """
    count = len(graph.node)
    start_s, order = np.zeros(count), np.empty(count, dtype=np.int64)
    columns = (graph.successor_start, graph.successor, seconds)
    done = jit.run(loops.longest_path, count, columns, (graph.waiting.copy(), start_s, order))
    return start_s, order[:done]


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
        _, nodes = longest_path(graph, np.zeros(count))
        start = np.zeros(count + 1, dtype=np.int64)
        np.cumsum(graph.waiting, out=start[1:])
        before = np.repeat(np.arange(count), np.diff(graph.successor_start))
        predecessor = before[np.argsort(graph.successor, kind="stable")]
        return cls(nodes=nodes, predecessor_start=start, predecessor=predecessor)

    def ends(self, row: Ints, seconds: Floats) -> Floats:
        """Return the end of each node in each sample, [node, sample] s; all nodes must be in the order.

        Args:
            row: [node] Row of each node in ``seconds``.
            seconds: [row, sample] Seconds.
        """
        ends = np.empty((len(row), seconds.shape[1]))
        columns = (self.nodes, self.predecessor_start, self.predecessor, row, seconds)
        jit.run(loops.longest_path_batch, ends.size, columns, (ends,))
        return ends
