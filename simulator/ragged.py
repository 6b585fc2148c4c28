"""Lists of different lengths that lie one after the other in one array."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


_NARROW = np.iinfo(np.int16)
_MANY = 1000


def ranges(start: Ints, count: Ints) -> Ints:
    """Return ``start, start + 1, ...``, ``count`` numbers for each start, one list behind the other.

    >>> ranges(np.array([5, 0, 7]), np.array([2, 0, 3])).tolist()
    [5, 6, 7, 8, 9]
    """
    if len(count) and (count == count[0]).all():
        even: Ints = (start[:, None] + np.arange(count[0])).reshape(-1)
        return even
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    numbers: Ints = np.arange(total) + np.repeat(start - (ends - count), count)
    return numbers


def sorted_by(key: Ints) -> Ints:
    """Return the places of small keys in ascending order, those of equal keys in their order.

    Numpy sorts keys of 16 bits by their digits. With wider ones, sorting the numbers themselves is many times
    as fast as its stable ``argsort``.

    >>> sorted_by(np.array([2, 0, 2, 1])).tolist()
    [1, 3, 0, 2]
    """
    if len(key) > _MANY and key.max() <= _NARROW.max:
        return np.argsort(key.astype(_NARROW.dtype), kind="stable")
    count = max(1, len(key))
    code = key * count + np.arange(len(key))
    code.sort()
    places: Ints = code % count
    return places


def distinct(key: Ints) -> tuple[Ints, Ints]:
    """Return small keys without repetition in ascending order, and the place of each key among them.

    >>> keys, places = distinct(np.array([7, 3, 7]))
    >>> keys.tolist(), places.tolist()
    ([3, 7], [1, 0, 1])
    """
    keys: Ints = np.flatnonzero(np.bincount(key))
    place = np.zeros(1 + int(key.max(initial=0)), dtype=np.int64)
    place[keys] = np.arange(len(keys))
    return keys, place[key]
