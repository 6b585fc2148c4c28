"""One of several equal parts of a sweep, for the tasks of a Slurm job array."""

from __future__ import annotations

import re
from dataclasses import dataclass

from simulator.errors import InputError


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


WHOLE = Shard()
