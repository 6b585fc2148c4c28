"""Catalogue entries as scenario data, by their names or by those that publications use."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.catalogue.gpu_entry import GpuEntry
from simulator.catalogue.lookup import document, find, names
from simulator.catalogue.model_entry import ModelEntry
from simulator.catalogue.network_entry import NetworkEntry
from simulator.catalogue.software_entry import SoftwareEntry
from simulator.documents import validate

if TYPE_CHECKING:
    from simulator.scenario import Gpu, Model, Network, Software


DEFAULT_STACK = "megatron-core"
"""Stands in for a stack that nothing is known about: the most common one."""


def gpu(name: str) -> Gpu:
    """Return an accelerator of the catalogue.

    Raises:
        CatalogueError: No entry has that name.

    >>> gpu("h100-80gb-sxm").peak_flop_per_s["bf16"]
    989000000000000.0
    """
    return _gpu(find("gpu", name))


def network(name: str) -> Network:
    """Return a network of the catalogue.

    Raises:
        CatalogueError: No entry has that name.

    >>> [tier.oversubscription for tier in network("meta-24k-roce").tiers]
    [1.0, 1.0, 7.0]
    """
    return _network(find("network", name))


def model(name: str) -> Model:
    """Return a model of the catalogue.

    Raises:
        CatalogueError: No entry has that name.

    >>> model("llama3.1-405b").num_hidden_layers
    126
    """
    return _model(find("model", name))


def software(name: str) -> Software:
    """Return a software stack of the catalogue.

    Raises:
        CatalogueError: No entry has that name.

    >>> software("megatron-lm-2021").overlap.grad_reduce
    False
    """
    return _software(find("software", name))


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


@lru_cache(maxsize=64)
def _gpu(name: str) -> Gpu:
    return validate(document("gpu", name), GpuEntry).to_scenario(name)


@lru_cache(maxsize=64)
def _network(name: str) -> Network:
    return validate(document("network", name), NetworkEntry).to_scenario(name)


@lru_cache(maxsize=256)
def _model(name: str) -> Model:
    return validate(document("model", name), ModelEntry).to_scenario(name)


@lru_cache(maxsize=64)
def _software(name: str) -> Software:
    return validate(document("software", name), SoftwareEntry).to_scenario(name)


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[re.Pattern[str], str, bool], ...]:
    found = []
    for name in names("software"):
        entry = validate(document("software", name), SoftwareEntry)
        for patterns, exact in ((entry.matches, True), (entry.nearest_for, False)):
            found += [(re.compile(pattern, re.IGNORECASE), name, exact) for pattern in patterns]
    return tuple(found)
