"""The reference engine: every op is an event of SimPy.

An op without a competitor for its links is one timeout, and so is a join, which is one node (see ``graph``).
Only ops whose links may carry something else at the same time go through ``links``. An op that takes no time
ends where it starts, without an event.

Order is a modelling decision: events of the same time run by priority, then in the order in which they were
scheduled, and what one event starts is started in order of op number. Same input, same bytes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from simpy import Environment

from simulator.engines.alarm import Alarm
from simulator.engines.check import check
from simulator.engines.deadlock import report
from simulator.engines.graph import Graph
from simulator.engines.links import Links
from simulator.engines.sharing import sharing_ops
from simulator.engines.timeline import Timeline
from simulator.errors import DeadlockError

if TYPE_CHECKING:
    from simulator.costs.durations import Durations
    from simulator.workload.program import Floats, Program


def run(program: Program, durations: Durations) -> Timeline:
    """Return when every op runs.

    Raises:
        DeadlockError: Ops wait for each other for ever.
        SimulationError: A duration, size or capacity is negative, infinite or missing.
    """
    check(program, durations)
    graph = Graph.of(program)
    simulation = _Simulation(program, durations, graph)
    simulation.run()
    start_s = np.array(simulation.start_s)[graph.node]
    end_s = np.array(simulation.end_s)[graph.node]
    finished = ~np.isnan(end_s)
    if not finished.all():
        raise DeadlockError(report(program, finished, end_s))
    return Timeline(program=program, start_s=start_s, end_s=end_s)


class _Simulation:
    """One run: how many edges each node still waits for, and when it started and ended."""

    def __init__(self, program: Program, durations: Durations, graph: Graph) -> None:
        count = program.num_ops
        self._env = Environment()
        self._links = Links(self._env, durations.link_bytes_per_s.tolist(), self._end_part)
        sharing = sharing_ops(program, durations)
        self._fixed_s, self._flow_bytes = durations.fixed_s.tolist(), durations.flow_bytes.tolist()
        self._flows: dict[int, list[int]] = {}
        self._routes: dict[int, tuple[int, ...]] = {}
        for op in np.flatnonzero(sharing).tolist():
            self._flows.setdefault(int(graph.node[op]), []).append(op)
            self._routes[op] = tuple(dict.fromkeys(durations.links(op).tolist()))
        self._node = graph.node.tolist()
        self._parts: dict[int, int] = {}
        self._seconds = _node_seconds(graph, np.where(sharing, 0.0, durations.alone_s()))
        self._waiting = graph.waiting.tolist()
        self._successor, self._bounds = graph.successor.tolist(), graph.successor_start.tolist()
        self._add_origin(graph)
        self.start_s = [math.nan] * (count + 1)
        self.end_s = [math.nan] * (count + 1)

    def _add_origin(self, graph: Graph) -> None:
        """Add a last node that ends at time 0, for nodes that wait for nothing else."""
        roots = np.flatnonzero((graph.waiting == 0) & (graph.node == np.arange(len(graph.node)))).tolist()
        for node in roots:
            self._waiting[node] = 1
        self._successor += roots
        self._bounds.append(len(self._successor))

    def run(self) -> None:
        """Let everything happen that can."""
        Alarm(self._env, 0.0, len(self._bounds) - 2, self._end)
        self._env.run()

    def _end(self, alarm: Alarm[int]) -> None:
        """End a node and start those that waited for nothing else."""
        env, now, end = self._env, self._env.now, self._end
        start_s, end_s, seconds, flows = self.start_s, self.end_s, self._seconds, self._flows
        successor, bounds, waiting = self._successor, self._bounds, self._waiting
        ended = [alarm.subject]
        for done in ended:  # grows by nodes that take no time
            end_s[done] = now
            for later in successor[bounds[done] : bounds[done + 1]]:
                left = waiting[later] - 1
                if left:
                    waiting[later] = left
                    continue
                start_s[later] = now
                if later in flows:
                    self._start_parts(later)
                elif seconds[later]:
                    Alarm(env, seconds[later], later, end)
                else:
                    ended.append(later)

    def _start_parts(self, node: int) -> None:
        """Start the flows of a node, each after its fixed time, beside what shares nothing."""
        ops = self._flows[node]
        self._parts[node] = len(ops)
        if self._seconds[node]:
            self._parts[node] += 1
            Alarm(self._env, self._seconds[node], node, self._end_timed_part)
        for op in ops:
            if self._fixed_s[op]:
                Alarm(self._env, self._fixed_s[op], op, self._start_flow)
            else:
                self._links.start(op, self._flow_bytes[op], self._routes[op])

    def _start_flow(self, alarm: Alarm[int]) -> None:
        op = alarm.subject
        self._links.start(op, self._flow_bytes[op], self._routes[op])

    def _end_timed_part(self, alarm: Alarm[int]) -> None:
        self._end_part(alarm.subject)

    def _end_part(self, op: int) -> None:
        """End a node with its last part."""
        node = self._node[op]
        self._parts[node] -= 1
        if not self._parts[node]:
            Alarm(self._env, 0.0, node, self._end)


def _node_seconds(graph: Graph, seconds: Floats) -> list[float]:
    """Return the seconds of the slowest op of each node."""
    slowest = np.zeros(len(seconds))
    np.maximum.at(slowest, graph.node, seconds)
    return slowest.tolist()
