"""The catalogue's stack for the name under which a publication mentions its software."""

from __future__ import annotations

import re
from functools import lru_cache

from simulator.catalogue.lookup import document, names
from simulator.catalogue.software_entry import SoftwareEntry
from simulator.documents import validate

DEFAULT_STACK = "megatron-core"
"""Stands in for a stack that nothing is known about: the most common one."""


def software_for_stack(text: str) -> tuple[str, bool]:
    """Return the catalogue name of the stack nearest to a published one, and whether it is that very stack.

    The longest match of the entries' patterns decides.

    Args:
        text: As a publication names its software.

    >>> software_for_stack("Megatron-LM 2021")
    ('megatron-lm-2021', True)
    >>> software_for_stack("Megatron-LM fork 2024")
    ('megatron-core', False)
    """
    best = (0, False, DEFAULT_STACK)
    for pattern, name, exact in _patterns():
        match = pattern.search(text)
        if match and (len(match[0]), exact) > best[:2]:
            best = (len(match[0]), exact, name)
    return best[2], best[1]


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[re.Pattern[str], str, bool], ...]:
    found = []
    for name in names("software"):
        entry = validate(document("software", name), SoftwareEntry)
        for patterns, exact in ((entry.matches, True), (entry.nearest_for, False)):
            found += [(re.compile(pattern, re.IGNORECASE), name, exact) for pattern in patterns]
    return tuple(found)
