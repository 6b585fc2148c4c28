"""How long each op of a Program takes: arrays beside the Program, one entry per op."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """Seconds of each op, and what part of them is a flow over shared links.

    An op first takes ``fixed_s``, then moves ``flow_bytes`` over all links of its route at once, at the
    max-min fair share of the links it crosses. Ops without a route take ``fixed_s`` and nothing else.

    Attributes:
        fixed_s: Seconds that no other op influences: compute, launch, latency.
        flow_bytes: Bytes that each op moves over its route; 0 without one.
        route_start: Links ``route[route_start[i]:route_start[i + 1]]`` carry op ``i``.
        route: See ``route_start``.
        link_bytes_per_s: Capacity of each link.
        link_names: What to call each link.
    """

    fixed_s: Floats
    flow_bytes: Floats
    route_start: Ints
    route: Ints
    link_bytes_per_s: Floats
    link_names: tuple[str, ...] = ()

    @classmethod
    def of(cls, fixed_s: Floats) -> Durations:
        """Return durations without any flow.

        >>> Durations.of(np.array([1.0, 2.0])).alone_s().tolist()
        [1.0, 2.0]
        """
        count = len(fixed_s)
        return cls(
            fixed_s=np.asarray(fixed_s, dtype=np.float64),
            flow_bytes=np.zeros(count),
            route_start=np.zeros(count + 1, dtype=np.int64),
            route=np.zeros(0, dtype=np.int64),
            link_bytes_per_s=np.zeros(0),
        )

    def links(self, op: int) -> Ints:
        """Return the links that op ``op`` crosses."""
        return self.route[self.route_start[op] : self.route_start[op + 1]]

    def alone_s(self) -> Floats:
        """Return the seconds of each op when nothing else uses its links."""
        seconds = self.fixed_s.copy()
        routed = np.flatnonzero(np.diff(self.route_start))
        if routed.size:
            seconds[routed] += self.flow_bytes[routed] / self._slowest(routed)
        return seconds

    def _slowest(self, routed: Ints) -> Floats | float:
        """Return the bytes/s of the slowest link of each op with a route: one number where all are equal."""
        capacity = self.link_bytes_per_s
        if (capacity == capacity[0]).all():
            return float(capacity[0])
        slowest: Floats = np.minimum.reduceat(capacity[self.route], self.route_start[routed])
        return slowest

    def scaled(self, factor: float) -> Durations:
        """Return durations with every op ``factor`` times as long."""
        return Durations(
            fixed_s=self.fixed_s * factor,
            flow_bytes=self.flow_bytes * factor,
            route_start=self.route_start,
            route=self.route,
            link_bytes_per_s=self.link_bytes_per_s,
            link_names=self.link_names,
        )
