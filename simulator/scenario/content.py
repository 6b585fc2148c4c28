"""Hashes of what a scenario's large parts hold, for the caches that ask for them again and again."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass

_MOST = 4096
_hashes: dict[int, tuple[object, int]] = {}
"""Hashes by identity, with the objects: as long as these are kept, nothing else has their ids."""


def content_hash(value: object) -> int:
    """Return the hash of all that counts when two values are compared; worked out once for each object.

    Fits ask for thousands of GPUs that differ in one number: a hash by name would put them all in one place,
    and every look-up would compare them one by one.

    Args:
        value: A frozen dataclass, whose mappings nobody changes.
    """
    kept = _hashes.get(id(value))
    if kept is None:
        if len(_hashes) >= _MOST:
            _hashes.clear()
        kept = _hashes[id(value)] = value, hash(_content(value))
    return kept[1]


def _content(value: object) -> Hashable:
    if is_dataclass(value):
        return tuple(_content(getattr(value, field.name)) for field in fields(value) if field.compare)
    if isinstance(value, Mapping):
        return frozenset((key, _content(inner)) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_content, value))
    if not isinstance(value, Hashable):
        raise TypeError(f"{type(value).__name__} cannot be hashed")
    return value
