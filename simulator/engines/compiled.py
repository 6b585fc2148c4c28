"""The fast engine: the longest path through a Program, without contention, of one sample or of many at once.

Transfers take as long as they do alone. Where none overlap on a link (see ``sharing``) the event engine says
the same to the last bit but for rounding; where some do, its answer is the later one.

One sample runs stream by stream: each goes on until an op of another one keeps it waiting. Nothing is sorted
and no successor is looked up, so it costs little more than reading the program. Many samples follow an order
of the program's nodes that is made once.

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
from simulator.engines.check import check
from simulator.engines.deadlock import report
from simulator.engines.durations import Durations
from simulator.engines.graph import nodes_of
from simulator.engines.timeline import Timeline
from simulator.errors import DeadlockError
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


def run(program: Program, durations: Durations) -> Timeline:
    """Return when every op runs if nothing shares its links.

    Raises:
        DeadlockError: Ops wait for each other for ever.
        SimulationError: A duration, size or capacity is negative, infinite or missing.
    """
    check(program, durations)
    start_s, end_s, order = run_streams(program, durations.alone_s())
    if len(order) < program.num_ops:
        finished = np.zeros(program.num_ops, dtype=np.bool_)
        finished[order] = True
        raise DeadlockError(report(program, finished, end_s))
    return Timeline(program=program, start_s=start_s, end_s=end_s)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Where the seconds of ops stand in a table, many ops in one row; joins last as long as their longest op.

    Attributes:
        of_op: [op] Row of each op; those of joins whose ops differ stand behind the table.
        members: [member] Rows of the ops of these joins, join by join.
        start: [join] Where those of each join begin.
    """

    of_op: Ints
    members: Ints
    start: Ints

    @classmethod
    def of(cls, program: Program, row: Ints, size: int) -> Rows:
        """Return the rows of a program's ops.

        Args:
            program: The ops.
            row: [op] Row of each op.
            size: Rows of the table.
        """
        node = nodes_of(program)
        joined = np.flatnonzero(node != np.arange(len(node)))
        if not joined.size:
            return cls(of_op=row, members=np.zeros(0, dtype=np.int64), start=np.zeros(0, dtype=np.int64))
        ops = np.flatnonzero(np.isin(node, node[joined]))
        ops = ops[np.argsort(node[ops], kind="stable")]
        _, start = np.unique(node[ops], return_index=True)
        lengths = np.diff(start, append=len(ops))
        of_op = row.copy()
        of_op[ops] = size + np.repeat(np.arange(len(start)), lengths)
        return cls(of_op=of_op, members=row[ops], start=start)

    def with_joins(self, seconds: Floats) -> Floats:
        """Return a table of seconds with those of joins behind it."""
        if not self.start.size:
            return seconds
        return np.concatenate((seconds, np.maximum.reduceat(seconds[self.members], self.start)))


def run_batch(program: Program, seconds: Floats, rows: Rows | None = None) -> Floats:
    """Return when every op ends, for many samples of its seconds at once.

    Nothing is checked: a step's costs are sound where its parts are.

    Args:
        program: The ops.
        seconds: [row, sample] Seconds of ops that are alone on their links.
        rows: Row of each op, where ``seconds`` already has those of joins; by default every op has its own.

    Returns:
        [op, sample] Ends.

    Raises:
        DeadlockError: Ops wait for each other for ever; the report shows the first sample.
    """
    if rows is None:
        rows = Rows.of(program, np.arange(program.num_ops), program.num_ops)
        seconds = rows.with_joins(seconds)
    return order_of(program, seconds.T[:1, rows.of_op]).ends(rows.of_op, seconds)


def order_of(program: Program, sample: Floats | None = None) -> Order:
    """Return the program's nodes in an order in which they can end; found once.

    Args:
        program: The ops.
        sample: One row of seconds, for the report of a deadlock.

    Raises:
        DeadlockError: Ops wait for each other for ever.
    """
    order = program.derived.get("order")
    if not isinstance(order, Order):
        order = program.derived["order"] = Order.of(program)
    if len(order.nodes) < program.num_ops:
        seconds = sample[0] if sample is not None and len(sample) else np.zeros(program.num_ops)
        run(program, Durations.of(seconds))
    return order


def last_ops(program: Program) -> Ints:
    """Return the ops that nothing waits for; found once."""
    last = program.derived.get("last ops")
    if not isinstance(last, np.ndarray):
        is_last = np.ones(program.num_ops, dtype=np.bool_)
        is_last[order_of(program).predecessor] = False
        last = program.derived["last ops"] = np.flatnonzero(is_last)
    return last
