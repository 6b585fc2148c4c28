"""Every error a user can meet.

    SimulatorError
    ├── InputError              the request is wrong: exit code 2
    │   ├── ScenarioError       one or more problems in a scenario file or an override
    │   ├── CatalogueError      no such GPU, network, model or software stack
    │   └── RowError            a published row that cannot be turned into a scenario
    └── SimulationError         the request is well formed but cannot be carried out
        └── DeadlockError       ops wait for each other for ever

A layout that does not fit in memory is an answer, not an error: see ``Result.memory.fits``.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the user's input.

    Attributes:
        message: What is wrong, the rule it breaks and the nearest valid choice.
        path: Dotted path of the key, for example ``parallelism.tp``; empty when none applies.
        file: Name of the file as the user wrote it; empty when the input is no file.
        line: Line in the file, counted from 1; 0 when unknown.
        column: Column in the line, counted from 1; 0 when unknown.
        excerpt: The offending line of the file, without its newline.
    """

    message: str
    path: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    excerpt: str = ""

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place += f":{self.line}:{self.column}"
        text = ": ".join(part for part in (place, self.path, self.message) if part)
        return f"{text}\n   | {self.excerpt}" if self.excerpt else text


class SimulatorError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 1


class InputError(SimulatorError):
    """The request itself is wrong."""

    exit_code = 2


class ScenarioError(InputError):
    """A scenario file or an override breaks rules; carries all problems found, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class CatalogueError(InputError):
    """A name that the catalogue does not hold."""


class RowError(InputError):
    """A published row that cannot be turned into a scenario; its text is the reason to count it under."""


class SimulationError(SimulatorError):
    """A well-formed request that cannot be carried out."""


class DeadlockError(SimulationError):
    """Ops wait for each other for ever: the text names ranks, ops and the cycle."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Name the nearest valid choice, as text to append to a message.

    >>> did_you_mean("h100-80gb-smx", ["h100-80gb-sxm", "a100-80gb-sxm"])
    "; did you mean 'h100-80gb-sxm'?"
    >>> did_you_mean("zzz", ["tp", "pp"])
    ''
    """
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
