"""Text with units at the border, SI floats inside.

A decimal prefix is a power of 1000, ``Ki``, ``Mi`` ... are powers of 1024; ``b`` is a bit, ``B`` a byte.
"""

from __future__ import annotations

import math
import re
from enum import Enum

_DECIMAL = {"": 1.0, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_DECIMAL |= {"T": 1e12, "P": 1e15, "E": 1e18, "Z": 1e21, "B": 1e9}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_TIME = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "day": 86400.0, "days": 86400.0}
_QUANTITY = re.compile(r"\s*([+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\d\s].*?)?\s*")


class Dimension(Enum):
    """What a quantity measures; the value is an example that a user could have meant."""

    TIME = "20 us"
    BYTES = "80 GB"
    BYTES_PER_S = "400 Gb/s"
    FLOP_PER_S = "989 TFLOP/s"
    POWER = "700 W"
    FREQUENCY = "1830 MHz"
    TOKENS = "15T"
    MONEY_PER_HOUR = "2.50 $/h"


_ENDINGS = {
    "_bytes_per_s": Dimension.BYTES_PER_S,
    "_flop_per_s": Dimension.FLOP_PER_S,
    "_bytes": Dimension.BYTES,
    "_watts": Dimension.POWER,
    "_s": Dimension.TIME,
}


def split_unit(name: str) -> tuple[str, Dimension | None]:
    """Split the name of a field into what it is and, by its ending, what it is measured in.

    >>> split_unit("bucket_bytes"), split_unit("vocab_size")
    (('bucket', <Dimension.BYTES: '80 GB'>), ('vocab_size', None))
    """
    ending = next((ending for ending in _ENDINGS if name.endswith(ending)), "")
    return name.removesuffix(ending), _ENDINGS.get(ending)


class UnitError(ValueError):
    """A quantity without a unit, with an unknown one, or with one of the wrong dimension."""


def _scaled(unit: str, base: str) -> float | None:
    """Return the factor of ``unit`` over ``base`` ("GiB" over "B"), or None if it is another unit."""
    if not unit.endswith(base):
        return None
    prefix = unit[: len(unit) - len(base)]
    if base in {"b", "B"} and prefix == "B":
        return None
    return _BINARY[prefix] if prefix in _BINARY else _DECIMAL.get(prefix)


def _factor(unit: str) -> tuple[Dimension, float] | None:
    """Classify a unit and give its factor to SI."""
    per_s = unit.removesuffix("/s") if unit.endswith("/s") else None
    if per_s is None and unit.endswith("bps"):
        per_s = unit.removesuffix("ps")
    if per_s is None and unit.lower().endswith("flops"):
        per_s = unit[:-1]
    if per_s is not None:
        for base, dimension, scale in (
            ("FLOP", Dimension.FLOP_PER_S, 1.0),
            ("B", Dimension.BYTES_PER_S, 1.0),
            ("b", Dimension.BYTES_PER_S, 0.125),
        ):
            factor = _scaled(per_s, base)
            if factor is not None:
                return dimension, factor * scale
        return None
    if unit in _TIME:
        return Dimension.TIME, _TIME[unit]
    if unit in {"$/h", "USD/h"}:
        return Dimension.MONEY_PER_HOUR, 1.0
    for base, dimension in (("B", Dimension.BYTES), ("W", Dimension.POWER), ("Hz", Dimension.FREQUENCY)):
        factor = _scaled(unit, base)
        if factor is not None:
            return dimension, factor
    factor = _scaled(unit, "s")
    return (Dimension.TIME, factor) if factor is not None and factor < 1 else None


def parse_quantity(text: object, dimension: Dimension) -> float:
    """Read a quantity with its unit as an SI float.

    Args:
        text: What stands in the file, for example ``"400 Gb/s"``.
        dimension: What is expected there.

    Raises:
        UnitError: No unit, an unknown unit, another dimension, or a negative number.

    >>> parse_quantity("400 Gb/s", Dimension.BYTES_PER_S)
    50000000000.0
    >>> parse_quantity("80 GiB", Dimension.BYTES)
    85899345920.0
    >>> parse_quantity("15T", Dimension.TOKENS)
    15000000000000.0
    >>> parse_quantity("400 GB", Dimension.BYTES_PER_S)
    Traceback (most recent call last):
    simulator.units.UnitError: '400 GB' is in bytes, expected bytes/s (for example '400 Gb/s')
    """
    example = f"(for example {dimension.value!r})"
    match = _QUANTITY.fullmatch(str(text)) if isinstance(text, str | int | float) else None
    if match is None or isinstance(text, bool):
        raise UnitError(f"{text!r} is not a number with a unit {example}")
    number = float(re.sub("[_,]", "", match[1]))
    unit = match[2] or ""
    if number < 0 or not math.isfinite(number):
        raise UnitError(f"{text!r} must be a finite number, zero or more {example}")
    if dimension is Dimension.TOKENS:
        scale = _DECIMAL.get(unit.removesuffix("tokens").strip())
        if scale is None or scale < 1:
            raise UnitError(f"{text!r} is not a number of tokens {example}")
        return number * scale
    if not unit:
        raise UnitError(f"{text!r} has no unit {example}")
    known = _factor(unit)
    if known is None:
        raise UnitError(f"{text!r} has an unknown unit {unit!r} {example}")
    if known[0] is not dimension:
        raise UnitError(f"{text!r} is in {_NAMES[known[0]]}, expected {_NAMES[dimension]} {example}")
    return number * known[1]


_NAMES = {
    Dimension.TIME: "seconds",
    Dimension.BYTES: "bytes",
    Dimension.BYTES_PER_S: "bytes/s",
    Dimension.FLOP_PER_S: "FLOP/s",
    Dimension.POWER: "watts",
    Dimension.FREQUENCY: "hertz",
    Dimension.TOKENS: "tokens",
    Dimension.MONEY_PER_HOUR: "$/h",
}


def format_time(seconds: float) -> str:
    """Write a duration for people.

    >>> [format_time(t) for t in (0.0, 3.2e-6, 0.046, 0.9997, 6.4, 7300, 9e5)]
    ['0 s', '3.20 us', '46.0 ms', '1.00 s', '6.40 s', '2.03 h', '10.4 days']
    """
    for limit, scale, unit in ((0.9995e-3, 1e-6, "us"), (0.9995, 1e-3, "ms")):
        if 0 < abs(seconds) < limit:
            return f"{three_digits(seconds / scale)} {unit}"
    if seconds == 0:
        return "0 s"
    for limit, scale, unit in ((600.0, 1.0, "s"), (172800.0, 3600.0, "h")):
        if abs(seconds) < limit:
            return f"{seconds / scale:.2f} {unit}"
    return f"{seconds / 86400:.1f} days"


def three_digits(value: float) -> str:
    """Write a number with three digits that count, zeros included, or as a whole number with more.

    >>> [three_digits(value) for value in (3.2, 46, 317.4, 0.05, 1234.5)]
    ['3.20', '46.0', '317', '0.0500', '1,234']
    """
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".removesuffix(".")


def format_bytes(size: float) -> str:
    """Write a size in binary units.

    >>> format_bytes(85899345920)
    '80.0 GiB'
    """
    for scale, unit in ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB")):
        if abs(size) >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} B"
