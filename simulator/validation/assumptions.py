"""What had to be assumed where a row does not say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.validation.stacks import StackDefaults

Value = TypeVar("Value")


@dataclass(slots=True)
class Assumptions:
    """The defaults of a row's stack, and a sentence about everything that was assumed.

    Attributes:
        defaults: What the stack does where the row does not say.
        software: Catalogue name of the stack that is simulated.
        settings: What the row sets by ``set:``, by path: nothing is assumed about these.
        sentences: One for each assumption.
    """

    defaults: StackDefaults
    software: str
    settings: Mapping[str, object] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Record an assumption."""
        self.sentences.append(sentence)

    def default(self, name: str, stated: Value | None, default: Value) -> Value:
        """Return what the row states, or the default of its stack, which is noted."""
        if stated is not None:
            return stated
        self.note(f"{name} not stated: {default!r}, the default of {self.defaults.name}")
        return default

    def stack_default(self, name: str, *paths: str) -> None:
        """Note that the simulated software decides, unless the row sets one of the paths."""
        if not any(path in self.settings for path in paths):
            self.note(f"{name} not stated: as {self.software} does")

    def default_word(self, name: str, stated: str | None, words: tuple[str, ...], default: str) -> str:
        """Return what the row states if it is one of the words, or the default, which is noted."""
        if stated is None or stated in words:
            return self.default(name, stated, default)
        self.note(f"{name} {stated!r} is not known: {default!r}, the default of {self.defaults.name}")
        return default
