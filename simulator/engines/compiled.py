"""The fast engine: the longest path through a Program, without contention, of one sample or of many at once.

Transfers take as long as they do alone. Where none overlap on a link (see ``sharing``) the event engine says
the same to the last bit but for rounding; where some do, its answer is the later one.

One sample runs stream by stream: each goes on until an op of another one keeps it waiting. Nothing is sorted
and no successor is looked up, so it costs little more than reading the program. Many samples follow an order
of the program's nodes that is made once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.engines.check import check
from simulator.engines.deadlock import report
from simulator.engines.durations import Durations
from simulator.engines.graph import nodes_of
from simulator.engines.order import Order, run_streams
from simulator.engines.timeline import Timeline
from simulator.errors import DeadlockError

if TYPE_CHECKING:
    from simulator.workload.program import Floats, Ints, Program


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
