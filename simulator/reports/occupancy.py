"""How busy each lane of a picture is, pixel by pixel: slices thinner than a pixel must not vanish or grow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.engines.timeline import Timeline
from simulator.workload.program import Ints

Floats = NDArray[np.float64]


def busy_fraction(start_s: Floats, end_s: Floats, edges_s: Floats) -> Floats:
    """Return the share of each interval between ``edges_s`` that slices cover; slices must not overlap.

    The time covered up to an instant is a piecewise linear function of it, so its differences are exact.

    >>> busy_fraction(np.array([0.0, 1.5]), np.array([0.5, 2.0]), np.array([0.0, 1.0, 2.0])).tolist()
    [0.5, 0.5]
    """
    if len(start_s) == 0:
        return np.zeros(len(edges_s) - 1)
    order = np.argsort(start_s, kind="stable")
    start, end = start_s[order], end_s[order]
    covered = np.concatenate([[0.0], np.cumsum(end - start)])
    instants = np.stack([start, end], axis=1).ravel()
    totals = np.stack([covered[:-1], covered[1:]], axis=1).ravel()
    share: Floats = np.diff(np.interp(edges_s, instants, totals)) / np.diff(edges_s)
    return share


def busy_by_kind(timeline: Timeline, ops: Ints, kinds: Ints, edges_s: Floats) -> Floats:
    """Return the busy share per kind (rows) and pixel (columns) of some ops of one rank.

    Streams run beside each other: where their shares add up to more than one, they are scaled down to one.
    """
    program = timeline.program
    shares = np.zeros((len(kinds), len(edges_s) - 1))
    for row, kind in enumerate(kinds.tolist()):
        for stream in np.unique(program.stream[ops]).tolist():
            chosen = ops[(program.kind[ops] == kind) & (program.stream[ops] == stream)]
            shares[row] += busy_fraction(timeline.start_s[chosen], timeline.end_s[chosen], edges_s)
    total = shares.sum(axis=0)
    scaled: Floats = shares / np.maximum(total, 1.0)
    return scaled
