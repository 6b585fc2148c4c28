"""Datasheet numbers of the measured GPUs, before anything is fitted."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator import catalogue

if TYPE_CHECKING:
    from simulator.scenario import Gpu


@lru_cache(maxsize=64)
def datasheet(name: str) -> Gpu:
    """Return a GPU of the catalogue without efficiencies: the fits give it theirs.

    Raises:
        CatalogueError: No such GPU.
    """
    return replace(
        catalogue.gpu(name),
        name=name,
        gemm={},
        attention={},
        elementwise_fraction=1.0,
        elementwise_ramp_s=0.0,
        training_clock={},
        matrix_speed=1.0,
        power=None,
    )
