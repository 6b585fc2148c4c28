"""One of several equal parts of a sweep, for the tasks of a Slurm job array."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from simulator.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``number`` of ``of``, counted from one: every ``of``-th point."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``i/n``.

        Raises:
            InputError: It is not of that form, or i is not from 1 to n.

        >>> Shard.parse("2/8")
        Shard(number=2, of=8)
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        number, of = (int(part) for part in found.groups()) if found else (0, 0)
        if not 1 <= number <= of:
            raise InputError(f"--shard {text}: expected i/n with i from 1 to n, for example 1/8")
        return cls(number, of)

    def part(self, parts: Sequence[Part], what: str) -> Sequence[Part]:
        """Return every ``of``-th part.

        Args:
            parts: All of them.
            what: Their name, for people.

        Raises:
            InputError: There is none left for this number.

        >>> Shard(2, 3).part(range(7), "points")
        range(1, 7, 3)
        """
        mine = parts[self.number - 1 :: self.of]
        if not mine:
            raise InputError(f"--shard {self.number}/{self.of}: there are only {len(parts)} {what} to share")
        return mine


WHOLE = Shard()
