"""What is wrong, in words that name the value and what was expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_core import ErrorDetails

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "finite_number": "a finite number",
    "mapping_type": "a mapping",
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def message(error: ErrorDetails, shown: Callable[[object], str]) -> str:
    """Explain a schema error.

    Args:
        error: As pydantic reports it.
        shown: Writes the user's value.
    """
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, got {shown(value)}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"must be {words} {context[key]}, got {shown(value)}"
    if kind in {"literal_error", "enum"}:
        near = did_you_mean(value, _quoted(str(context["expected"]))) if isinstance(value, str) else ""
        return f"expected {context['expected']}, got {shown(value)}{near}"
    if kind == "value_error":
        return str(context["error"])
    if kind in {"too_short", "string_too_short"}:
        return "must not be empty"
    text = error["msg"]
    return f"{text[:1].lower()}{text[1:]}, got {shown(value)}"


def _quoted(expected: str) -> list[str]:
    """Return the words between quotes in pydantic's list of choices."""
    return expected.split("'")[1::2]
