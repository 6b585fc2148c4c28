"""What a rule of scenario files is: facts in, yes or no out, for one scenario or a column of ten thousand.

    law       tp divides the attention heads
    reads     parallelism.tp   model.num_attention_heads        facts, in the words of files
    holds     lambda tp, heads: heads % tp == 0
                  4                32                           -> True                    one scenario
              [4, 5, 8]            32                           -> [True, False, True]     [layout]
    sentence  "tp = {parallelism.tp} does not divide the {model.num_attention_heads} attention heads ..."
    nearest   lambda tp, heads: nearest_divisors(heads, tp)

So predicates are made of arithmetic, ``&`` and ``|`` wherever a fact may be a column of a search; what is the
same for all layouts of a search (the model, words of the file) may be asked by ``if``.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fact:
    """A number or a word that follows from settings.

    Attributes:
        name: What rules call it; it has no dot.
        reads: The facts that it follows from.
        value: Of these, in their order; serves columns.
        meaning: How it is worked out, for people.
        needs: Rules without which it makes no sense.
    """

    name: str
    reads: tuple[str, ...]
    value: Callable[..., Any]
    meaning: str
    needs: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rule:
    """What must hold for a scenario to be possible.

    Attributes:
        law: The rule in one sentence.
        reads: Settings by their dotted paths and facts by their names.
        holds: Whether it holds, of the facts it reads in their order; serves columns.
        at: Dotted path of the setting where a problem is noted.
        sentence: What is wrong; facts stand in braces, the nearest valid choice as ``{nearest}``.
        example: Facts that break it, enough for the sentence.
        nearest: The nearest valid choice, of the facts it reads, as text.
        needs: Rules that must hold for it to be asked.
    """

    law: str
    reads: tuple[str, ...]
    holds: Callable[..., Any]
    at: str
    sentence: str
    example: Mapping[str, Any]
    nearest: Callable[..., str] | None = None
    needs: tuple[Rule, ...] = ()

    def asks(self, facts: Mapping[str, Any]) -> Any:  # noqa: ANN401  a bool, or a column of them
        """Return whether it holds."""
        return self.holds(*(facts[name] for name in self.reads))

    def message(self, facts: Mapping[str, Any]) -> str:
        """Return what is wrong, with the numbers of a scenario that breaks the rule."""
        near = "" if self.nearest is None else self.nearest(*(facts[name] for name in self.reads))
        return _Sentence().vformat(self.sentence, (), {"facts": facts, "nearest": near})


class _Sentence(string.Formatter):
    """Puts facts in place of their dotted names, and the items of lists one after the other."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        del args
        value = kwargs[field_name] if field_name in kwargs else kwargs["facts"][field_name]
        return value, field_name

    def format_field(self, value: Any, format_spec: str) -> str:  # noqa: ANN401
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value)) or "nothing"
        return format(value, format_spec)


class FactTable(Mapping[str, Any]):
    """Settings by their dotted paths, and what follows from them, worked out when it is first asked for."""

    def __init__(
        self, given: Mapping[str, Any], settings: Callable[[str], Any], derived: Mapping[str, Fact]
    ) -> None:
        """Make a table.

        Args:
            given: Settings and facts whose values, or columns, are known.
            settings: The value of any other setting by its path.
            derived: What follows from settings, by name.
        """
        self._given = given
        self._settings = settings
        self._derived = derived
        self._values: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  a number, a word or a column
        if name not in self._values:
            fact = self._derived.get(name)
            if name in self._given:
                self._values[name] = self._given[name]
            elif fact is None:
                self._values[name] = self._settings(name)
            else:
                self._values[name] = fact.value(*(self[read] for read in fact.reads))
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def no(condition: Any) -> Any:  # noqa: ANN401  a bool or a column
    """Return the opposite of a condition; ``not`` and ``~`` serve either one scenario or a column."""
    return not condition if isinstance(condition, bool) else ~condition
