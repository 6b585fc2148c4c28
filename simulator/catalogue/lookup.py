"""Finding an entry by its name, another name of it, or either with other punctuation."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from simulator.documents import Document, parse
from simulator.errors import CatalogueError, did_you_mean

_HERE = Path(__file__).parent
_FOLDERS: dict[str, str] = {"gpu": "gpus", "network": "networks", "model": "models", "software": "software"}
_WORDS = {"gpu": "GPU", "network": "network", "model": "model", "software": "software stack"}
_ALIASES = re.compile(r"^aliases: \[(.*)\]$", re.MULTILINE)
_PUNCTUATION = re.compile(r"(?<!\d)\.|\.(?!\d)|[^a-z0-9.]+")


def normalised(name: str) -> str:
    """Reduce a name to its letters and digits; a point between digits stays.

    >>> normalised("Llama-3.1_405B"), normalised("llama3.1-405b")
    ('llama3.1405b', 'llama3.1405b')
    """
    return _PUNCTUATION.sub("", name.lower())


def names(kind: str) -> tuple[str, ...]:
    """Return the names of all entries of a kind, sorted by name and then by size.

    Args:
        kind: ``gpu``, ``network``, ``model`` or ``software``; a plural is understood too.

    Raises:
        CatalogueError: There is no such kind.

    >>> names("gpus")[:2]
    ('a100-40gb-sxm', 'a100-80gb-pcie')
    """
    return _names(_kind(kind))


@lru_cache(maxsize=1024)
def find(kind: str, name: str) -> str:
    """Return the catalogue name of an entry.

    Raises:
        CatalogueError: No entry has such a name; the text names the nearest one.

    >>> find("gpu", "h100"), find("model", "Llama-3.1 405B")
    ('h100-80gb-sxm', 'llama3-405b')
    """
    if name in names(kind):
        return name
    found = _index(_kind(kind)).get(normalised(name))
    if found is not None:
        return found
    near = did_you_mean(name[:100].lower(), [*names(kind), *aliases(kind)])
    word = _WORDS[_kind(kind)]
    shown = name if len(name) <= 60 else name[:57] + "..."
    raise CatalogueError(f"no {word} {shown!r} in the catalogue{near or _list(kind)}")


def aliases(kind: str) -> dict[str, str]:
    """Return every other name of the entries of a kind with the name it stands for."""
    found: dict[str, str] = {}
    for name in names(kind):
        match = _ALIASES.search((_folder(kind) / f"{name}.yaml").read_text("utf-8"))
        found |= {alias.strip(): name for alias in match[1].split(",")} if match else {}
    return found


def document(kind: str, name: str) -> Document:
    """Read the file of an entry, found by any of its names.

    Raises:
        CatalogueError: There is no such entry.
    """
    found = find(kind, name)
    return _document(_kind(kind), found)


@lru_cache(maxsize=64)
def fitted(name: str) -> dict[str, Any]:
    """Return what a file of fitted numbers holds."""
    data = parse((_HERE / "fitted" / f"{name}.yaml").read_text("utf-8"), f"fitted/{name}.yaml").data
    return data if isinstance(data, dict) else {}


@lru_cache(maxsize=1)
def fits() -> frozenset[str]:
    """Return the names of all files of fitted numbers."""
    return frozenset(path.stem for path in (_HERE / "fitted").glob("*.yaml"))


@lru_cache(maxsize=256)
def _document(kind: str, name: str) -> Document:
    return parse((_folder(kind) / f"{name}.yaml").read_text("utf-8"), f"{_FOLDERS[kind]}/{name}.yaml")


@lru_cache(maxsize=8)
def _index(kind: str) -> dict[str, str]:
    spelled = aliases(kind) | {name: name for name in names(kind)}
    return {normalised(word): name for word, name in spelled.items()}


@lru_cache(maxsize=8)
def _names(kind: str) -> tuple[str, ...]:
    listed = (item.name for item in _folder(kind).iterdir())
    return tuple(
        sorted((name.removesuffix(".yaml") for name in listed if name.endswith(".yaml")), key=_natural)
    )


def _kind(kind: str) -> str:
    singular = kind.removesuffix("s")
    if singular not in _FOLDERS:
        raise CatalogueError(
            f"no kind {kind!r} in the catalogue; known kinds: {', '.join(_FOLDERS.values())}"
        )
    return singular


def _folder(kind: str) -> Path:
    return _HERE / _FOLDERS[_kind(kind)]


def _list(kind: str) -> str:
    return f"; 'simulator list {_FOLDERS[_kind(kind)]}' names them all"


def _natural(name: str) -> list[tuple[float, str]]:
    """Sort ``llama3-8b`` before ``llama3-70b``."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(float(part), "") if part[:1].isdigit() else (-1.0, part) for part in parts]
