"""The fast engine: the longest path through a Program, one sample or many at once, without contention.

Transfers take as long as they do alone. Where none meet on a link (``sharing.meets``) the event engine says
the same to the last bit but for rounding; where some do, its answer is the later one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.costs.durations import Durations
from simulator.engines.check import check, check_numbers
from simulator.engines.deadlock import report
from simulator.engines.graph import Graph
from simulator.engines.order import Order
from simulator.engines.streams import run_streams
from simulator.engines.timeline import Timeline
from simulator.errors import DeadlockError, SimulationError

if TYPE_CHECKING:
    from simulator.workload.program import Floats, Program


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

    Samples that lie beside each other in memory (the transpose of an array with one row per op) save a copy.

    Args:
        program: The ops.
        seconds: Seconds of each op (columns) in each sample (rows), alone on its links.

    Raises:
        DeadlockError: Ops wait for each other for ever; the report shows the first sample.
        SimulationError: A number is negative, infinite or missing.
    """
    if seconds.ndim != 2 or seconds.shape[1] != program.num_ops:
        raise SimulationError(f"seconds of shape {seconds.shape} for {program.num_ops} ops")
    check_numbers(program, "seconds", seconds)
    graph, order = Graph.of(program), order_of(program, seconds[:1])
    own = np.ascontiguousarray(seconds.T, dtype=np.float64)
    joined = graph.joined
    if joined.size:
        own = own.copy() if np.shares_memory(own, seconds) else own
        np.maximum.at(own, graph.node[joined], own[joined])
    ends = order.ends(own)
    ends[joined] = ends[graph.node[joined]]
    return ends.T


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
