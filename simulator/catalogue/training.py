"""What training reaches of isolated kernels: fitted to published runs, per GPU and per software stack."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from simulator.catalogue.kernels import lender
from simulator.documents import Sourced, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

Numbers = dict[str, Sourced[float]]


def training_clocks(name: str, like: str | None = None) -> Numbers:
    """Return the share of isolated kernel speed that training sustains, by number format.

    Args:
        name: Catalogue name of the GPU, or any other name for one that the catalogue does not hold.
        like: GPU whose fit stands in where there is none; then the one that lends its kernels.
    """
    table = _fits()["gpus"]
    found: str | None = name
    while found is not None and found not in table:
        found, like = like or lender(found), None
    if found is None:
        return {}
    numbers = {key: Sourced[float].model_validate(value) for key, value in table[found].items()}
    if found == name:
        return numbers
    return {
        key: number.model_copy(update={"kind": "assumed", "source": f"as fitted on {found}: {number.source}"})
        for key, number in numbers.items()
    }


def stack_habits(name: str) -> Numbers:
    """Return the fitted numbers of a software stack by field of its entry; empty where nothing was fitted."""
    found = _fits()["stacks"].get(name, {})
    return {key: Sourced[float].model_validate(value) for key, value in found.items()}


@lru_cache(maxsize=1)
def _fits() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    text = (files("simulator.catalogue") / "fitted" / "training.yaml").read_text("utf-8")
    data: Any = parse(text, "fitted/training.yaml").data
    return {"gpus": data["gpus"] or {}, "stacks": data["stacks"] or {}}
