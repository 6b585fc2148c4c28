"""What a plain YAML scalar means: the core schema of YAML 1.2 (section 10.3.2)."""

from __future__ import annotations

import re

_CONSTANTS: dict[str, object] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_CONSTANTS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+(?:_[0-9]+)*")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)")
_MAX_DIGITS = 400


def plain_scalar(text: str) -> object:
    """Return what an unquoted scalar stands for.

    Python's ``16_384`` is accepted beside ``16384``.

    Raises:
        ValueError: A number of more than 400 characters.

    >>> [plain_scalar(text) for text in ("8", "1e-3", "no", "true", "~", "16_384", "400 Gb/s", "12:30:45")]
    [8, 0.001, 'no', True, None, 16384, '400 Gb/s', '12:30:45']
    """
    if text in _CONSTANTS or text[0] not in "+-.0123456789":
        return _CONSTANTS.get(text, text)
    is_integer = _INTEGER.fullmatch(text) is not None
    if len(text) > _MAX_DIGITS and (is_integer or _FLOAT.fullmatch(text)):
        raise ValueError(f"a number of {len(text)} characters")
    if is_integer or _BASED.fullmatch(text):
        return int(text, 10 if is_integer else 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.lower().replace(".", ""))
    return text
