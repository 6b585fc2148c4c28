"""Field types of file schemas: quantities with units, whole numbers in sane ranges, names."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from simulator.units import Dimension, parse_quantity


def _quantity(dimension: Dimension, meaning: str) -> tuple[BeforeValidator, WithJsonSchema]:
    def read(value: object) -> float:
        return parse_quantity(value, dimension)

    text = f"{meaning}, with its unit, for example {dimension.value!r}"
    kinds = ["string", "number"] if dimension is Dimension.TOKENS else "string"
    return BeforeValidator(read), WithJsonSchema(
        {"type": kinds, "description": text, "examples": [dimension.value]}
    )


_FINITE = Field(allow_inf_nan=False)
_TIME = _quantity(Dimension.TIME, "a time")
_BYTES = _quantity(Dimension.BYTES, "a size")
_BYTES_PER_S = _quantity(Dimension.BYTES_PER_S, "a rate (b is a bit, B a byte)")
_FLOP_PER_S = _quantity(Dimension.FLOP_PER_S, "a compute rate")
_POWER = _quantity(Dimension.POWER, "a power")
_FREQUENCY = _quantity(Dimension.FREQUENCY, "a frequency")
_TOKENS = _quantity(Dimension.TOKENS, "a number of tokens")
_MONEY = _quantity(Dimension.MONEY_PER_HOUR, "a price")

Seconds = Annotated[float, _FINITE, *_TIME]
Bytes = Annotated[float, _FINITE, *_BYTES]
BytesPerSecond = Annotated[float, _FINITE, *_BYTES_PER_S]
FlopPerSecond = Annotated[float, _FINITE, *_FLOP_PER_S]
Watts = Annotated[float, _FINITE, *_POWER]
Hertz = Annotated[float, _FINITE, *_FREQUENCY]
Tokens = Annotated[float, _FINITE, *_TOKENS]
DollarsPerHour = Annotated[float, _FINITE, *_MONEY]

PositiveBytes = Annotated[Bytes, Field(gt=0)]
PositiveBytesPerSecond = Annotated[BytesPerSecond, Field(gt=0)]
PositiveFlopPerSecond = Annotated[FlopPerSecond, Field(gt=0)]
PositiveTokens = Annotated[Tokens, Field(gt=0)]

MAX_GPUS = 10_000_000
MAX_SIZE = 1_000_000_000

GpuCount = Annotated[int, Field(ge=1, le=MAX_GPUS)]
"""Ranks of a job or of one axis; ten million is ten times the largest planned cluster."""
PositiveCount = Annotated[int, Field(ge=1, le=MAX_SIZE)]
"""A size such as a width, a sequence length or a batch."""
Count = Annotated[int, Field(ge=0, le=MAX_SIZE)]
Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
