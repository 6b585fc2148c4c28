"""Algorithms of collectives: each file prices some; the fastest that can carry out a collective runs.

To add one, put a file into this folder that defines ``ALGORITHMS``: functions that yield the costs of the
kinds they can carry out, in every protocol, and nothing for the others. Nothing else has to change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.costs.links import ScaleUp
    from simulator.costs.message import MessageCost
    from simulator.costs.topology import Placement
    from simulator.workload.work import CollectiveKind

Algorithm = Callable[["CollectiveKind", float, "Placement", "ScaleUp"], "Iterator[MessageCost]"]


def _found() -> tuple[Algorithm, ...]:
    """Return the algorithms that the files of this folder define."""
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    return tuple(algorithm for module in modules for algorithm in getattr(module, "ALGORITHMS", ()))


ALGORITHMS: tuple[Algorithm, ...] = _found()
