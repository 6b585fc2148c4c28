"""The fast engine: the longest path through a Program, one sample or many at once, without contention.

Transfers take as long as they do alone. Where none meet on a link (``sharing.meets``) the event engine says
the same to the last bit but for rounding; where some do, its answer is the later one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.engines.check import check
from simulator.engines.deadlock import report
from simulator.engines.durations import Durations
from simulator.engines.graph import Graph
from simulator.engines.order import Order
from simulator.engines.streams import run_streams
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
    start_s, end_s, finished = run_streams(program, durations.alone_s())
    if not finished.all():
        raise DeadlockError(report(program, finished, end_s))
    return Timeline(program=program, start_s=start_s, end_s=end_s)


def run_batch(program: Program, seconds: Floats) -> Floats:
    """Return when every op ends, for many samples of its seconds at once.

    Nothing is checked: a step's costs are sound where its parts are.

    Args:
        program: The ops.
        seconds: Seconds of each op (rows) in each sample (columns), alone on its links; ops of a join become
            as long as the longest of them.

    Raises:
        DeadlockError: Ops wait for each other for ever; the report shows the first sample.
    """
    graph, order = Graph.of(program), order_of(program, seconds.T[:1])
    if not graph.joined.size:
        return order.ends(seconds)
    joined = graph.joined[np.argsort(graph.node[graph.joined], kind="stable")]
    nodes, start, which = np.unique(graph.node[joined], return_index=True, return_inverse=True)
    seconds[nodes] = np.maximum(seconds[nodes], np.maximum.reduceat(seconds[joined], start))
    seconds[joined] = seconds[nodes][which]
    ends = order.ends(seconds)
    ends[joined] = ends[nodes][which]
    return ends


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
        order = program.derived["order"] = Order.of(Graph.of(program))
    if len(order.nodes) < program.num_ops:
        seconds = sample[0] if sample is not None and len(sample) else np.zeros(program.num_ops)
        run(program, Durations.of(seconds))
    return order


def last_ops(program: Program) -> Ints:
    """Return the ops that nothing waits for; found once."""
    last = program.derived.get("last ops")
    if not isinstance(last, np.ndarray):
        last = program.derived["last ops"] = np.flatnonzero(np.diff(Graph.of(program).successor_start) == 0)
    return last
