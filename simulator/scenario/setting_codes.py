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
        self._read: list[Callable[[object], Hashable]] = []

    def place(self, path: str) -> int:
        """Return the place of a setting in ``of``; from now on it has one."""
        if path not in self._known:
            self._known[path] = {}
            self._read.append(attrgetter(path))
            self.places += 1
        return list(self._known).index(path)

    def of(self, scenario: object) -> tuple[int, ...]:
        """Return the code of every setting that has a place."""
        return tuple(
            known.setdefault(read(scenario), len(known))
            for known, read in zip(self._known.values(), self._read, strict=True)
        )

    def clear(self) -> None:
        """Forget all codes: whatever was looked up by them is lost."""
        self._known.clear()
        self._read.clear()
        self.places = 0
