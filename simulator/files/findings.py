"""What the rules find: problems with their places in the file, and warnings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.documents import Document
    from simulator.errors import Problem


@dataclass(slots=True)
class Findings:
    """Collects everything, so that the user learns of all problems at once.

    Attributes:
        document: The file's content, for places.
        problems: What makes the scenario impossible.
        warnings: What the user should know about it.
    """

    document: Document
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def problem(self, path: str, message: str) -> None:
        """Note a problem with the setting at a dotted path."""
        place = self.document.value_place(tuple(path.split(".")))
        self.problems.append(place.problem(message, path))

    def warn(self, message: str) -> None:
        """Note a warning."""
        self.warnings.append(message)


def nearest_multiples(number: int, of: int) -> str:
    """Name the multiples of ``of`` around ``number``.

    >>> nearest_multiples(1000, 128), nearest_multiples(5, 128)
    ('896 or 1024', '128')
    """
    low = number // of * of
    return f"{low} or {low + of}" if low else str(of)


def nearest_divisors(number: int, to: int) -> str:
    """Name the divisors of ``number`` around ``to``.

    >>> nearest_divisors(126, 8), nearest_divisors(32, 100)
    ('7 or 9', '32')
    """
    below = next((d for d in range(min(to, number), 0, -1) if number % d == 0), 1)
    above = next((d for d in range(to, min(number, 100_000) + 1) if number % d == 0), None)
    return f"{below} or {above}" if above is not None and above != below else str(below)
