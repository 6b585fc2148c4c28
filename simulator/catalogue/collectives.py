"""What measured collectives say: how much large messages reach, GPU by GPU, and what NCCL's tables lack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.catalogue.kernels import DEFAULT_LIKE, lender
from simulator.catalogue.lookup import fitted
from simulator.documents import Sourced

if TYPE_CHECKING:
    from collections.abc import Mapping

_SOURCE = "simulator/calibration/measurements/collectives.yaml; rerun: simulator calibrate collectives"


def collective_fractions(name: str, like: str | None = None) -> dict[str, Sourced[float]]:
    """Return the shares of the scale-up bandwidth by field of ``CollectiveEfficiency``.

    Args:
        name: Catalogue name of the GPU, or any other name for one that the catalogue does not hold.
        like: GPU whose fit stands in where there is none; then the one that lends its kernels, then the H100.
    """
    table = fitted("collectives")["gpus"]
    found: str | None = name
    while found is not None and found not in table:
        found, like = like or lender(found), None
    origin = found or DEFAULT_LIKE
    kind, why = ("fitted", "") if origin == name else ("assumed", f"as fitted on {origin}: ")
    return {
        key: Sourced.model_validate({"value": value, "source": why + _SOURCE, "kind": kind})
        for key, value in table[origin].items()
    }


def collective_corrections() -> Mapping[str, float]:
    """Return what measurements add to NCCL's own tables, by field of ``Corrections``."""
    corrections: Mapping[str, float] = fitted("collectives")["corrections"]
    return corrections
