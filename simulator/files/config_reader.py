"""Reading keys of a ``config.json`` under their several names, noting what is missing or wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from simulator.documents import MAX_SIZE, Limits
from simulator.documents.read import read_text
from simulator.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from pathlib import Path


def read_json(path: Path) -> dict[str, object]:
    """Return the mapping in a JSON file; a folder stands for the ``config.json`` in it.

    Raises:
        ScenarioError: It cannot be read, is no JSON or holds no mapping.
    """
    if path.is_dir():
        path /= "config.json"
    text = read_text(path, Limits(size_bytes=4 << 20))
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        problem = Problem(f"is not valid JSON: {error.msg}", "", str(path), error.lineno, error.colno)
        raise ScenarioError([problem]) from None
    except (RecursionError, ValueError) as error:
        raise ScenarioError([Problem(f"is not valid JSON: {error}", file=str(path))]) from None
    if not isinstance(content, dict):
        raise ScenarioError(
            [Problem("is not a model configuration: expected a JSON mapping", file=str(path))]
        )
    return content


class ConfigReader:
    """The keys of one configuration; problems are collected and raised together."""

    def __init__(self, keys: dict[str, object], file: str) -> None:
        nested = keys.get("text_config")
        self.keys = {**keys, **nested} if isinstance(nested, dict) else keys
        self.file = file
        self.problems: list[Problem] = []

    def has(self, name: str) -> bool:
        """Tell whether a key is there and not null."""
        return self.keys.get(name) is not None

    def text(self, name: str) -> str:
        """Return a word, or nothing."""
        value = self.keys.get(name)
        return value if isinstance(value, str) else ""

    def size(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """Return the first whole number among ``names``.

        Args:
            names: Keys, the preferred first.
            default: For when none is there; None makes the first of them obligatory.
            least: Smallest value that makes sense.
        """
        for name in names:
            value = self.keys.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_SIZE:
                self.note(name, f"expected a whole number of {least} or more, got {str(value)[:60]!r}")
                return least
            return value
        if default is None:
            others = f" (or {', '.join(names[1:])})" if names[1:] else ""
            self.note(names[0], f"the key {names[0]!r}{others} is missing")
            return 1
        return default

    def flag(self, *names: str, default: bool) -> bool:
        """Return the first true or false among ``names``."""
        for name in names:
            value = self.keys.get(name)
            if isinstance(value, bool):
                return value
            if value is not None:
                self.note(name, f"expected true or false, got {str(value)[:60]!r}")
        return default

    def positive(self, *names: str, default: bool) -> bool:
        """Tell whether the first number among ``names`` is more than nothing."""
        for name in names:
            value = self.keys.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return value > 0
            if value is not None:
                self.note(name, f"expected a number, got {str(value)[:60]!r}")
        return default

    def words(self, name: str) -> list[object]:
        """Return a list, or an empty one."""
        value = self.keys.get(name)
        if value is not None and not isinstance(value, list):
            self.note(name, f"expected a list, got {str(value)[:60]!r}")
        return value if isinstance(value, list) else []

    def note(self, key: str, message: str) -> None:
        """Note a problem with a key."""
        self.problems.append(Problem(message, key, self.file))
