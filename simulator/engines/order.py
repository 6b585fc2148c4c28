"""Ops of a program in an order in which they can end, what each waits for, and longest paths along it.

A node is an op, or a join: it goes by the index of its first op. With ops 0, 1 on one stream, 2, 3 on another
one, 3 waiting for 0, and 1 and 3 joined, node 1 waits for what both of its ops wait for:

    op                   0    1    2    3 (part of node 1)
    predecessor_start    0    3    1    1
    predecessor_end      0    6    1    1
    predecessor          0 (of op 1), 2 and 0 (of op 3); behind them all that node 1 waits for: 0, 2, 0

An op waits for the op before it on its stream and for its dependencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.engines import jit, loops
from simulator.engines.graph import nodes_of
from simulator.ragged import ranges, sorted_by

if TYPE_CHECKING:
    from simulator.workload.program import Floats, Ints, Program

_NEVER = -1.0
_FEW = 100
"""Ops up to which handing arrays to compiled code takes longer than running them."""


def run_streams(program: Program, seconds: Floats) -> tuple[Floats, Floats, Ints]:
    """Return when each op starts and ends, and the ops that do, each after all that it waits for.

    Times of the others mean nothing.

    Args:
        program: The ops.
        seconds: [op] Seconds of each op; a join takes as long as the longest of its ops.
    """
    count = program.num_ops
    queued, queue_start = program.in_queues()
    queues = (queue_start, queued, program.dependency_start, program.dependency, seconds)
    columns, missing = _joins(program, seconds)
    start_s, end_s = np.zeros(count), np.full(count, _NEVER)
    order = np.empty(count, dtype=np.int64)
    results = (missing, np.full(count, -1), start_s, end_s, order)
    done = jit.run(loops.run_streams, count if count > _FEW else 0, (*queues, *columns), results)
    return start_s, end_s, order[:done]


def _joins(program: Program, seconds: Floats) -> tuple[tuple[Ints, Ints, Ints, Floats], Ints]:
    """Return the join of each op, counted from 0; where the ops of each begin, these and its s; its size."""
    joined = np.flatnonzero(program.join >= 0)
    if not joined.size:
        none = np.zeros(0, dtype=np.int64)
        return (program.join, np.zeros(1, dtype=np.int64), none, np.zeros(0)), none
    _, index, sizes = np.unique(program.join[joined], return_inverse=True, return_counts=True)
    join = np.full(program.num_ops, -1)
    join[joined] = index
    join_s = np.zeros(len(sizes))
    np.maximum.at(join_s, index, seconds[joined])
    member_start = np.concatenate(([0], np.cumsum(sizes)))
    return (join, member_start, joined[sorted_by(index)], join_s), sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What nodes wait for, in an order in which they can end.

    Attributes:
        node: [op] Node of each op.
        joined: Ops whose node is another op.
        nodes: All ops, each after all that its node waits for; fewer where some wait for ever.
        predecessor_start: Nodes ``predecessor[predecessor_start[i]:predecessor_end[i]]`` end before node
            ``i`` starts.
        predecessor_end: See ``predecessor_start``.
        predecessor: See ``predecessor_start``.
    """

    node: Ints
    joined: Ints
    nodes: Ints
    predecessor_start: Ints
    predecessor_end: Ints
    predecessor: Ints

    @classmethod
    def of(cls, program: Program) -> Order:
        """Return the order of a program."""
        count = program.num_ops
        _, _, nodes = run_streams(program, np.zeros(count))
        queued, queue_start = program.in_queues()
        is_first = np.zeros(count + 1, dtype=np.bool_)
        is_first[queue_start] = True
        follows = np.empty(count, dtype=np.bool_)
        follows[queued] = ~is_first[:count]
        start = program.dependency_start.copy()
        np.cumsum(follows, out=start[1:])
        start[1:] += program.dependency_start[1:]
        predecessor = np.empty(start[-1], dtype=np.int64)
        is_dependency = np.ones(len(predecessor), dtype=np.bool_)
        is_dependency[start[:-1][follows]] = False
        predecessor[is_dependency] = program.dependency
        earlier = np.empty(count, dtype=np.int64)
        earlier[queued[1:]] = queued[:-1]
        predecessor[~is_dependency] = earlier[follows]
        return cls._with_joins(program, nodes, start, predecessor)

    @classmethod
    def _with_joins(cls, program: Program, nodes: Ints, start: Ints, predecessor: Ints) -> Order:
        """Let joins wait for what any of their ops waits for.

        Args:
            program: The ops.
            nodes: These, in an order in which they can end.
            start: [op + 1] Where what each of them waits for begins.
            predecessor: Ops.
        """
        node = nodes_of(program)
        first, end = start[:-1].copy(), start[1:].copy()
        joined = np.flatnonzero(node != np.arange(len(node)))
        if joined.size:
            ops = np.flatnonzero(program.join >= 0)
            ops = ops[np.argsort(node[ops], kind="stable")]
            waits = end[ops] - first[ops]
            merged = len(predecessor) + np.concatenate(([0], np.cumsum(waits)))
            behind = predecessor[ranges(first[ops], waits)]
            predecessor = node[np.concatenate((predecessor, behind))]
            heads, at = np.unique(node[ops], return_index=True)
            end[joined] = first[joined]
            first[heads], end[heads] = merged[at], merged[np.append(at[1:], len(ops))]
        return cls(
            node=node,
            joined=joined,
            nodes=nodes,
            predecessor_start=first,
            predecessor_end=end,
            predecessor=predecessor,
        )

    def ends(self, row: Ints, seconds: Floats) -> Floats:
        """Return the end of each op in each sample, [op, sample] s; all ops must be in the order.

        Args:
            row: [op] Row of each op in ``seconds``.
            seconds: [row, sample] Seconds.
        """
        ends = np.empty((len(row), seconds.shape[1]))
        waits = (self.predecessor_start, self.predecessor_end, self.predecessor)
        jit.run(loops.longest_path_batch, ends.size, (self.nodes, *waits, row, seconds), (ends,))
        ends[self.joined] = ends[self.node[self.joined]]
        return ends
