"""The nearest catalogue entry for a name that the catalogue does not hold."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_FORM_FACTORS = ("sxm", "pcie", "nvl")


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())


def _number(name: str, unit: str) -> float:
    found = re.search(rf"(\d+(?:\.\d+)?){unit}\b", name.lower())
    return float(found[1]) if found else 0.0


def nearest_gpu(name: str, known: Iterable[str]) -> str:
    """Pick the accelerator nearest to a name: same chip, then same form factor, then nearest memory size.

    Where no entry is of the same chip (the name's first word, or the first two of a TPU), the nearest
    generation decides for a TPU and the most similar spelling for the rest.

    >>> known = ["h100-80gb-sxm", "h100-94gb-nvl", "a100-40gb-sxm", "a100-80gb-sxm", "tpu-v4", "tpu-v7"]
    >>> [nearest_gpu(name, known) for name in ("h100-96gb-hbm2e-sxm", "a100-sxm4-48gb", "tpu-v7x", "tpu-v3")]
    ['h100-80gb-sxm', 'a100-40gb-sxm', 'tpu-v7', 'tpu-v4']
    """
    choices = list(known)
    if name in choices:
        return name
    family = _family(name)
    same = [choice for choice in choices if _family(choice) == family]
    wanted = set(_words(name))

    def distance(choice: str) -> tuple[int, float, float, str]:
        shared = len(wanted.intersection(_words(choice), _FORM_FACTORS))
        memory = abs(_number(choice, "gb") - _number(name, "gb")) if _number(name, "gb") else 0.0
        return -shared, memory, -_similarity(name, choice), choice

    if same:
        return min(same, key=distance)
    kin = [choice for choice in choices if family.startswith("tpu") and choice.startswith("tpu")]
    return min(
        kin or choices,
        key=lambda choice: (
            abs(_generation(choice) - _generation(name)) if kin else 0.0,
            -_similarity(name, choice),
        ),
    )


def _family(name: str) -> str:
    words = _words(name)
    if words[:1] == ["tpu"]:
        return "-".join(words[:2]).removesuffix("x")
    return words[0] if words else ""


def _generation(name: str) -> float:
    found = re.search(r"\d+", name)
    return float(found[0]) if found else 0.0


def _similarity(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()
