"""Many data-parallel replicas of one Program, each with its own durations, coupled by their collectives.

A Program stands for one replica. Where GPUs differ, replicas do too: every op of every replica has its own
seconds, and a collective over replicas starts when the last of them is ready and ends for all at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.engines.check import check_numbers
from simulator.engines.compiled import order_of
from simulator.engines.graph import Graph
from simulator.engines.jit import loops
from simulator.errors import SimulationError

if TYPE_CHECKING:
    from simulator.engines.order import Order
    from simulator.workload.program import Floats, Ints, Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupling:
    """Which replicas run each op together: groups of ``size`` replicas, ``stride`` apart.

    Attributes:
        size: Replicas of a group, by op; 1 for ops that every replica runs by itself.
        stride: Distance between neighbours of a group, by op.
    """

    size: Ints
    stride: Ints


def run_replicas(
    program: Program, seconds: Floats, coupling: Coupling, *, ends: Floats | None = None
) -> Floats:
    """Return when every op of every replica ends.

    Args:
        program: One replica.
        seconds: Seconds of each op alone, of shape samples x ops x replicas: replicas lie beside each other
            in memory. Samples have nothing to do with each other. Ops that run together, in a join of the
            program or in several replicas, take as long as the slowest of them.
        coupling: Which replicas run an op together; replicas are a multiple of ``size * stride``,
            or one group holds all of them.
        ends: Where to put the result, to save the time in which the system hands out memory.

    Returns:
        Seconds from the start of the step, of the same shape.

    Raises:
        DeadlockError: Ops wait for each other for ever.
        SimulationError: A number is negative, infinite or missing.
    """
    if seconds.ndim != 3 or seconds.shape[1] != program.num_ops:
        raise SimulationError(f"seconds of shape {seconds.shape} for {program.num_ops} ops")
    order, graph = order_of(program), Graph.of(program)
    size, step = np.ones((2, program.num_ops), dtype=np.int64)
    np.maximum.at(size, graph.node, coupling.size)  # a join couples as the widest of its ops
    np.maximum.at(step, graph.node, coupling.stride)
    rows, row_of = np.unique(graph.node[graph.joined]), np.full(program.num_ops, -1)
    row_of[rows] = np.arange(len(rows))
    found = np.empty(seconds.shape) if ends is None else ends
    for own, sample in zip(seconds, found, strict=True):
        lasts = own[rows]
        np.maximum.at(lasts, row_of[graph.node[graph.joined]], own[graph.joined])
        if not _run(order, size, step, own, lasts, row_of, sample):
            check_numbers(program, "seconds", own.T)
        sample[graph.joined] = sample[graph.node[graph.joined]]
    return found


def _run(
    order: Order, size: Ints, step: Ints, seconds: Floats, joined: Floats, row_of: Ints, ends: Floats
) -> bool:
    compiled = loops(seconds.size)
    bounds, before = order.predecessor_start, order.predecessor
    if compiled is not None:
        sound: bool = compiled.follow_replicas(
            order.nodes, bounds, before, size, step, seconds, joined, row_of, ends
        )
        return sound
    for node in order.nodes.tolist():
        row = ends[node]
        others = before[bounds[node] : bounds[node + 1]]
        row[:] = ends[others].max(axis=0) if others.size else 0.0
        own = seconds[node] if row_of[node] < 0 else joined[row_of[node]]
        if size[node] > 1:
            row[:] = _over_groups(row, int(size[node]), int(step[node]))
            own = _over_groups(own, int(size[node]), int(step[node]))
        row += own
    return bool(np.all((seconds >= 0.0) & (seconds < np.inf)))


def _over_groups(row: Floats, size: int, step: int) -> Floats:
    """Give every replica the largest number of its group."""
    blocks = row.reshape(-1, min(size, len(row) // step), step)
    largest: Floats = np.broadcast_to(blocks.max(axis=1, keepdims=True), blocks.shape).reshape(-1)
    return largest
