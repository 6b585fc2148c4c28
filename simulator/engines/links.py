"""Links that concurrent transfers share max-min fairly.

The max-min fair rates of Bertsekas and Gallager, Data Networks (2nd ed., 1992), section 6.5.2, found by
progressive filling: all rates grow together until a link is full, its flows keep their rate, the others go
on. Rates change only when a flow starts or ends, and only for flows that share a link with it, directly or
through others. Starts and ends of the same instant count as one change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.engines.alarm import END_OF_INSTANT, Alarm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simpy import Environment


def fair_rates(routes: Sequence[Sequence[int]], capacity: Sequence[float]) -> list[float]:
    """Return the max-min fair rate of each flow in bytes/s.

    Args:
        routes: The links that each flow crosses, at least one and each of them once.
        capacity: Bytes/s of each link.

    The first link is shared in three; what the third flow cannot use is left to others on the second.

    >>> fair_rates([[0], [0], [0, 1], [1]], [3.0, 8.0])
    [1.0, 1.0, 1.0, 7.0]
    """
    rates = [0.0] * len(routes)
    left = {link: capacity[link] for route in routes for link in route}
    crossing: dict[int, set[int]] = {link: set() for link in left}
    for flow, route in enumerate(routes):
        for link in route:
            crossing[link].add(flow)
    share = 0.0
    while crossing:
        full = min(crossing, key=lambda link: (left[link] / len(crossing[link]), link))
        # Shares only grow; the maximum keeps a rounding residue from starving the last flows.
        share = max(share, left[full] / len(crossing[full]))
        for flow in crossing.pop(full):
            rates[flow] = share
            for link in routes[flow]:
                if link in crossing:
                    left[link] -= share
                    crossing[link].remove(flow)
                    if not crossing[link]:
                        del crossing[link]
    return rates


@dataclass(slots=True, eq=False)
class Flow:
    """A transfer under way: ``left`` bytes at time ``since``, moving at ``rate`` until ``timer``."""

    op: int
    route: tuple[int, ...]
    left: float
    since: float
    rate: float = 0.0
    timer: Alarm[list[Flow]] | None = None


class Links:
    """The links of a cluster and the flows that cross them now."""

    def __init__(self, env: Environment, capacity: Sequence[float], on_end: Callable[[int], None]) -> None:
        self._env = env
        self._capacity = capacity
        self._on_end = on_end
        self._crossing: list[dict[int, Flow]] = [{} for _ in capacity]
        self._changed: dict[int, Flow] = {}
        self._slowest: dict[tuple[int, ...], float] = {}

    def start(self, op: int, size: float, route: tuple[int, ...]) -> None:
        """Let an op move ``size`` bytes over all links of its route at once, and call ``on_end(op)`` then."""
        flow = Flow(op=op, route=route, left=size, since=self._env.now)
        alone = True
        for link in route:
            crossing = self._crossing[link]
            alone = alone and not crossing
            crossing[op] = flow
        if not alone:
            self._share_again({op: flow})
            return
        if route not in self._slowest:
            self._slowest[route] = min(self._capacity[link] for link in route)
        flow.rate = self._slowest[route]
        flow.timer = Alarm(self._env, size / flow.rate, [flow], self._end)

    def _share_again(self, changed: dict[int, Flow]) -> None:
        """Compute the rates around some flows anew, once everything else of this instant has happened."""
        if not self._changed:
            Alarm(self._env, 0.0, None, self._share, END_OF_INSTANT)
        self._changed |= changed

    def _share(self, _alarm: Alarm[None]) -> None:
        changed, self._changed = self._changed, {}
        while changed:
            _, first = changed.popitem()
            flows = self._connected(first)
            for flow, rate in zip(flows, fair_rates([f.route for f in flows], self._capacity), strict=True):
                changed.pop(flow.op, None)
                self._settle(flow, rate)
            self._time(flows)

    def _connected(self, first: Flow) -> list[Flow]:
        """Return the flows that share links with a flow, directly or through others, in order of their op."""
        found = {first.op: first}
        queue = [first]
        links: set[int] = set()
        for flow in queue:
            for link in flow.route:
                if link in links:
                    continue
                links.add(link)
                new = {op: other for op, other in self._crossing[link].items() if op not in found}
                found |= new
                queue += new.values()
        return [found[op] for op in sorted(found)]

    def _settle(self, flow: Flow, rate: float) -> None:
        """Account for the bytes moved so far and go on at another rate."""
        now = self._env.now
        flow.left = max(0.0, flow.left - flow.rate * (now - flow.since))
        flow.since = now
        flow.rate = rate
        if flow.timer is not None:
            flow.timer.cancel()

    def _time(self, flows: list[Flow]) -> None:
        """Set one timer for those of the connected flows that end first."""
        delays = [flow.left / flow.rate for flow in flows]
        soonest = min(delays)
        ending = [flow for flow, delay in zip(flows, delays, strict=True) if delay <= soonest]
        timer = Alarm(self._env, soonest, ending, self._end)
        for flow in flows:
            flow.timer = timer

    def _end(self, alarm: Alarm[list[Flow]]) -> None:
        """Take flows off their links and tell who waits for them."""
        ending = alarm.subject
        for flow in ending:
            self._changed.pop(flow.op, None)
            for link in flow.route:
                del self._crossing[link][flow.op]
        for flow in ending:
            for link in flow.route:
                if self._crossing[link]:
                    self._share_again(self._crossing[link])
        for flow in ending:
            self._on_end(flow.op)
