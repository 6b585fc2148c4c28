"""Which op waits for which, with every join drawn together into one node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from simulator.workload.program import Ints, Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The order that a Program imposes: nodes are ops, and joins count as one node.

    A node goes by the number of its first op, so the other ops of a join are nodes without edges.

    Attributes:
        node: Node of each op.
        waiting: Edges that end at each node: it starts when all of them are done.
        successor_start: Nodes ``successor[successor_start[i]:successor_start[i + 1]]`` wait for node ``i``.
        successor: See ``successor_start``; in ascending order for each node.
        joined: Ops whose node is another op.
    """

    node: Ints
    waiting: Ints
    successor_start: Ints
    successor: Ints
    joined: Ints

    @classmethod
    def of(cls, program: Program) -> Graph:
        """Return the graph of a program: its dependencies, and the order of its streams; found once."""
        graph = program.derived.get("graph")
        if not isinstance(graph, Graph):
            graph = program.derived["graph"] = cls._of(program)
        return graph

    @classmethod
    def _of(cls, program: Program) -> Graph:
        """Return the graph: edges from an op to the next one on its stream and to those that depend on it."""
        count = program.num_ops
        node = nodes_of(program)
        earlier, later = stream_order(program)
        waits = np.repeat(np.arange(count), np.diff(program.dependency_start))
        before = node[np.concatenate([earlier, program.dependency])]
        after = node[np.concatenate([later, waits])]
        start = np.zeros(count + 1, dtype=np.int64)
        np.cumsum(np.bincount(before, minlength=count), out=start[1:])
        # Sorting one integer for each edge sorts them by the node before, then by the node after it.
        edge = before * max(1, count) + after
        edge.sort()
        return cls(
            node=node,
            waiting=np.bincount(after, minlength=count),
            successor_start=start,
            successor=edge % max(1, count),
            joined=np.flatnonzero(node != np.arange(count)),
        )


def nodes_of(program: Program) -> Ints:
    """Return the node of each op: itself, or the first op of its join."""
    node = np.arange(program.num_ops)
    joined = np.flatnonzero(program.join >= 0)
    if joined.size:
        _, first, inverse = np.unique(program.join[joined], return_index=True, return_inverse=True)
        node[joined] = joined[first][inverse]
    return node


def queues(program: Program) -> Ints:
    """Return one number per op that tells its rank and stream apart from all others."""
    streams = int(program.stream.max(initial=0)) + 1
    return program.rank * streams + program.stream


def stream_order(program: Program) -> tuple[Ints, Ints]:
    """Return the ops that directly follow each other on a stream: the earlier and the later of each pair."""
    found = program.derived.get("stream order")
    if found is None:
        order, start = program.in_queues()
        follows = np.ones(len(order), dtype=np.bool_)
        follows[start[start < len(order)]] = False
        later = np.flatnonzero(follows)
        found = program.derived["stream order"] = order[later - 1], order[later]
    return cast("tuple[Ints, Ints]", found)
