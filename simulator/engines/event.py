"""The reference engine: every op is an event of SimPy.

An op without a competitor for its links is one event, and so is a join, which is one node (see ``graph``).
Only ops whose links may carry something else at the same time go through ``links``. An op that takes no time
ends where it starts, without an event.

Order is a modelling decision: events of the same time run by priority, then in the order in which they were
scheduled, and what one event starts is started in order of op number. Same input, same bytes.
"""

from __future__ import annotations

import math
from array import array
from heapq import heappush
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from simpy import Environment
from simpy.events import NORMAL

from simulator.engines.alarm import Alarm, Turn
from simulator.engines.check import check
from simulator.engines.deadlock import report
from simulator.engines.graph import Graph, queues
from simulator.engines.links import Links
from simulator.engines.sharing import sharing_ops
from simulator.engines.timeline import Timeline
from simulator.errors import DeadlockError

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.engines.durations import Durations
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


class _Flow(NamedTuple):
    """What an op of a node moves over links that others may want too, after its fixed time."""

    op: int
    node: int
    fixed_s: float
    size: float
    route: tuple[int, ...]


class _Simulation(Environment):
    """One run of a program's nodes and of a last one, the origin, which ends at 0, before all others start.

    Attributes:
        start_s: Start of each node, nan before it starts.
        end_s: End of each node, nan before it is known.
    """

    def __init__(self, program: Program, durations: Durations, graph: Graph) -> None:
        super().__init__()
        sharing = sharing_ops(program, durations)
        seconds = _node_seconds(graph, np.where(sharing, 0.0, durations.alone_s()))
        self._flow = _flows(graph, durations, np.flatnonzero(sharing).tolist())
        self._flows: dict[int, list[_Flow]] = {}
        for flow in self._flow.values():
            self._flows.setdefault(flow.node, []).append(flow)
        nodes = list(self._flows)
        self._beside_s = dict(zip(nodes, seconds[nodes].tolist(), strict=True))
        self._parts = {node: len(self._flows[node]) + (self._beside_s[node] > 0.0) for node in nodes}
        seconds[nodes] = 0.0
        self._links = Links(self, durations.link_bytes_per_s.tolist(), self._end_flow)
        self._stream = queues(program).tolist()
        self._turns = [Turn() for _ in range(max(self._stream, default=0) + 1)]
        self.start_s = array("d", [math.nan]) * (program.num_ops + 1)
        self.end_s = array("d", [math.nan]) * (program.num_ops + 1)
        self._on_fixed_time = [self._end_fixed_time]
        self._end = self._ending(graph, seconds.tolist())
        self._end_now(program.num_ops, Turn())

    def _ending(self, graph: Graph, seconds: list[float]) -> Callable[[Turn], None]:
        """Return what ends a node and starts those that waited for nothing else.

        Whatever happens to every op happens here, so names are local and events go straight into the queue.
        """
        waiting, successor, bounds = _edges(graph)
        start_s, end_s, flows = self.start_s, self.end_s, self._flows
        turns, stream = self._turns, self._stream
        queue, numbers = self._queue, self._eid

        def end(turn: Turn) -> None:
            now = end_s[turn.node]
            ended = [turn.node]
            for done in ended:  # grows by nodes that take no time
                for later in successor[bounds[done] : bounds[done + 1]]:
                    left = waiting[later] - 1
                    if left:
                        waiting[later] = left
                        continue
                    start_s[later] = now
                    if seconds[later]:
                        end_s[later] = then = now + seconds[later]
                        following = turns[stream[later]]
                        following.node, following.callbacks = later, calls
                        heappush(queue, (then, NORMAL, next(numbers), following))
                    elif later in flows:
                        self._start_parts(later)
                    else:
                        end_s[later] = now
                        ended.append(later)

        calls = [end]
        return end

    def _start_parts(self, node: int) -> None:
        """Start the flows of a node, each after its fixed time, beside what shares nothing."""
        if self._beside_s[node]:
            Alarm(self, self._beside_s[node], node, self._end_timed_part)
        for flow in self._flows[node]:
            if flow.fixed_s:
                turn = self._turns[self._stream[flow.op]]
                turn.node, turn.callbacks = flow.op, self._on_fixed_time
                self.schedule(turn, NORMAL, flow.fixed_s)
            else:
                self._links.start(flow.op, flow.size, flow.route)

    def _end_fixed_time(self, turn: Turn) -> None:
        flow = self._flow[turn.node]
        self._links.start(flow.op, flow.size, flow.route)

    def _end_timed_part(self, alarm: Alarm[int]) -> None:
        self._end_part(alarm.subject)

    def _end_flow(self, op: int) -> None:
        self._end_part(self._flow[op].node)

    def _end_part(self, node: int) -> None:
        """End a node with its last part."""
        self._parts[node] -= 1
        if not self._parts[node]:
            self._end_now(node, self._turns[self._stream[node]])

    def _end_now(self, node: int, turn: Turn) -> None:
        self.end_s[node] = self.now
        turn.node = node
        self._end(turn)


def _flows(graph: Graph, durations: Durations, ops: list[int]) -> dict[int, _Flow]:
    """Return the flows of some ops."""
    flows: dict[int, _Flow] = {}
    routes: dict[tuple[int, ...], tuple[int, ...]] = {}  # each without the links that it crosses twice
    start, route = durations.route_start.tolist(), durations.route.tolist()
    columns = (graph.node[ops].tolist(), durations.fixed_s[ops].tolist(), durations.flow_bytes[ops].tolist())
    for op, node, fixed_s, size in zip(ops, *columns, strict=True):
        links = tuple(route[start[op] : start[op + 1]])
        if links not in routes:
            routes[links] = tuple(dict.fromkeys(links))
        flows[op] = _Flow(op, node, fixed_s, size, routes[links])
    return flows


def _edges(graph: Graph) -> tuple[list[int], list[int], list[int]]:
    """Return how many edges each node waits for, and where they lead; the origin's are the last."""
    waiting, bounds = graph.waiting.tolist(), graph.successor_start.tolist()
    first = np.flatnonzero((graph.waiting == 0) & (graph.node == np.arange(len(graph.node)))).tolist()
    for node in first:
        waiting[node] = 1
    return waiting, graph.successor.tolist() + first, [*bounds, bounds[-1] + len(first)]


def _node_seconds(graph: Graph, seconds: Floats) -> Floats:
    """Return the seconds of the slowest op of each node."""
    np.maximum.at(seconds, graph.node[graph.joined], seconds[graph.joined])
    return seconds
