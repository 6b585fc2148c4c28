"""Filling in what a row leaves blank, and saying so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from simulator.validation.defaults import StackDefaults

Value = TypeVar("Value")


@dataclass(slots=True)
class Blanks:
    """The habits of a row's stack, and the warnings about everything that was assumed.

    Attributes:
        defaults: What the stack does where the row does not say.
        software: Catalogue name of the stack that is simulated.
        warnings: One sentence for each assumption.
    """

    defaults: StackDefaults
    software: str
    warnings: list[str] = field(default_factory=list)

    def note(self, warning: str) -> None:
        """Record an assumption."""
        self.warnings.append(warning)

    def fill(self, what: str, stated: Value | None, default: Value) -> Value:
        """Return what the row states, or the default with a warning."""
        if stated is not None:
            return stated
        self.note(f"{what} not stated: {default!r}, the default of {self.defaults.name}")
        return default

    def left(self, what: str) -> None:
        """Record that a blank stays one: the simulated software's habit holds."""
        self.note(f"{what} not stated: as {self.software} does")

    def fill_known(self, what: str, stated: str | None, known: tuple[str, ...], default: str) -> str:
        """Return what the row states if it is one of the known words, or the default with a warning."""
        if stated is None or stated in known:
            return self.fill(what, stated, default)
        self.note(f"{what} {stated!r} is not known: {default!r}, the default of {self.defaults.name}")
        return default
