"""Lists of different lengths that lie one after the other in one array."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from simulator.workload.program import Ints


def ranges(start: Ints, count: Ints) -> Ints:
    """Return ``start, start + 1, ...``, ``count`` numbers for each start, one list behind the other.

    >>> ranges(np.array([5, 0, 7]), np.array([2, 0, 3])).tolist()
    [5, 6, 7, 8, 9]
    """
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    numbers: Ints = np.arange(total) + np.repeat(start - (ends - count), count)
    return numbers
