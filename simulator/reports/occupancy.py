"""How busy each lane of a picture is, pixel by pixel: slices thinner than a pixel must not vanish or grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.reports.boxes import Boxes
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


def busy_by_kind(streams: Sequence[Boxes], kinds: Ints, edges_s: Floats) -> Floats:
    """Return the busy share per kind (rows) and pixel (columns) of one rank.

    Args:
        streams: Boxes of each stream. Streams run beside each other: where their shares add up to more than
            one, they are scaled down to one.
        kinds: Kinds to tell apart.
        edges_s: Borders of the pixels.
    """
    shares = np.zeros((len(kinds), len(edges_s) - 1))
    for boxes in streams:
        for row, kind in enumerate(kinds.tolist()):
            mine = boxes.select(boxes.kind == kind)
            shares[row] += busy_fraction(mine.start_s, mine.end_s, edges_s)
    scaled: Floats = shares / np.maximum(shares.sum(axis=0), 1.0)
    return scaled
