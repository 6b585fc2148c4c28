"""Small numbers for values of settings: looked up again and again, they take less time than the values."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class SettingCodes:
    """Codes of settings by their dotted paths: equal values have equal codes.

    Attributes:
        places: How many settings have a place.

    >>> from types import SimpleNamespace
    >>> codes = SettingCodes()
    >>> codes.place("parallelism.tp")
    0
    >>> [codes.of(SimpleNamespace(parallelism=SimpleNamespace(tp=tp))) for tp in (8, 4, 8)]
    [(0,), (1,), (0,)]
    """

    def __init__(self) -> None:
        self.places = 0
        self._known: dict[str, dict[Hashable, int]] = {}
        self._read: Callable[[object], tuple[Hashable, ...]] = _nothing

    def place(self, path: str) -> int:
        """Return the place of a setting in ``of``; from now on it has one."""
        if path not in self._known:
            self._known[path] = {}
            self._read = _reader(*self._known)
            self.places += 1
        return list(self._known).index(path)

    def of(self, scenario: object) -> tuple[int, ...]:
        """Return the code of every setting that has a place."""
        values = zip(self._known.values(), self._read(scenario), strict=True)
        return tuple([known.setdefault(value, len(known)) for known, value in values])

    def clear(self) -> None:
        """Forget all codes: whatever was looked up by them is lost."""
        self._known.clear()
        self._read = _nothing
        self.places = 0


def _nothing(_scenario: object) -> tuple[()]:
    return ()


def _reader(*paths: str) -> Callable[[object], tuple[Hashable, ...]]:
    read = attrgetter(*paths)
    return read if len(paths) > 1 else lambda scenario: (read(scenario),)
