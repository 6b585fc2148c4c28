"""What training reaches of isolated kernels: fitted to published runs, per GPU and per software stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.catalogue.derive import Numbers, fitted_fields
from simulator.catalogue.kernels import lender
from simulator.catalogue.lookup import fitted
from simulator.documents import Sourced
from simulator.scenario import Software

if TYPE_CHECKING:
    from collections.abc import Mapping

HABITS = fitted_fields(Software)
"""What is fitted of a software stack, with whether it may be assumed: host times, slowdown, overhead."""


def training_clocks(name: str, like: str | None = None) -> Numbers:
    """Return the share of isolated kernel speed that training sustains, by number format.

    Args:
        name: Catalogue name of the GPU, or any other name for one that the catalogue does not hold.
        like: GPU whose fit stands in where there is none; then the one that lends its kernels.
    """
    table = _fits("gpus")
    clocks = {key: number for key, number in _typical().items() if key not in HABITS}
    seen: list[str] = [name]
    while (other := like or lender(seen[-1])) is not None:
        seen.append(other)
        like = None
    for found in reversed(seen):
        lent = {} if found == name else {"kind": "assumed"}
        why = "" if found == name else f"as fitted on {found}: "
        clocks |= {
            key: _number({**leaf, **lent, "source": why + leaf["source"]})
            for key, leaf in table.get(found, {}).items()
        }
    return clocks


def stack_habits(name: str) -> Numbers:
    """Return the fitted numbers of a stack by field of ``Software``; none where nothing was fitted."""
    return {key: _number(leaf) for key, leaf in _fits("stacks").get(name, {}).items()}


def typical_habits() -> Numbers:
    """Return what all stacks share, by field of ``Software``: for one without runs that states none.

    That calling a module takes long is said by the few where it does; elsewhere it is assumed away.
    """
    return {key: number for key, number in _typical().items() if HABITS.get(key) is False}


def _typical() -> Numbers:
    return {
        key: _number({**leaf, "kind": "assumed", "source": f"typical: {leaf['source']}"})
        for key, leaf in _fits("typical").items()
    }


def _number(leaf: Mapping[str, Any]) -> Sourced[float]:
    return Sourced[float].model_validate({key: leaf[key] for key in ("value", "kind", "source")})


def _fits(part: str) -> Mapping[str, Any]:
    return fitted("training").get(part) or {}
