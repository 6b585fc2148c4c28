"""Whether the engines' loops run compiled: numba is optional, and slow to import."""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

ENOUGH = 500_000
"""Nodes after which importing numba (0.3 s) has paid off: plain loops take 0.7 us for each."""

_followed = [0]


@cache
def has_numba() -> bool:
    """Tell whether loops can be compiled."""
    return find_spec("numba") is not None


def loops(nodes: int) -> ModuleType | None:
    """Return the compiled loops if they are there and worth it for so many more nodes.

    Without numba in memory, plain loops run until they have cost as much as importing it.
    """
    if not has_numba():
        return None
    _followed[0] += nodes
    if "numba" not in sys.modules and _followed[0] < ENOUGH:
        return None
    from simulator.engines import loops as compiled  # noqa: PLC0415  numba is slow to import

    return compiled
