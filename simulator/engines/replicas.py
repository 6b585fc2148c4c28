"""Many data-parallel replicas of one Program, each with its own durations, coupled by their collectives.

A Program stands for one replica. Where GPUs differ, replicas do too: every op of every replica has its own
seconds, and a collective over replicas starts when the last of them is ready and ends for all at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.engines import jit, loops
from simulator.engines.check import check_numbers
from simulator.engines.compiled import order_of
from simulator.errors import SimulationError

if TYPE_CHECKING:
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
    order = order_of(program)
    node, joined = order.node, order.joined
    size, stride = np.ones((2, program.num_ops), dtype=np.int64)
    np.maximum.at(size, node, coupling.size)  # a join couples as the widest of its ops
    np.maximum.at(stride, node, coupling.stride)
    nodes_of_joins, join = np.unique(node[joined]), np.full(program.num_ops, -1)
    join[nodes_of_joins] = np.arange(len(nodes_of_joins))
    columns = (order.nodes, order.predecessor_start, order.predecessor_end, order.predecessor, size, stride)
    if ends is None:
        ends = np.empty(seconds.shape)
    for sample_s, sample_end_s in zip(seconds, ends, strict=True):
        join_s = sample_s[nodes_of_joins]
        np.maximum.at(join_s, join[node[joined]], sample_s[joined])
        times = (sample_s, join_s, join)
        if not jit.run(loops.longest_path_of_replicas, sample_s.size, (*columns, *times), (sample_end_s,)):
            check_numbers(program, "seconds", sample_s.T)
        sample_end_s[joined] = sample_end_s[node[joined]]
    return ends
