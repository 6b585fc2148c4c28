"""Documents: strict YAML with positions, and schemas whose errors point into the user's file."""

from simulator.documents.aliases import Also, canonical, known_keys
from simulator.documents.document import Document, Place, dotted
from simulator.documents.fields import (
    Bytes,
    BytesPerSecond,
    Count,
    DollarsPerHour,
    FlopPerSecond,
    Fraction,
    GpuCount,
    Hertz,
    Name,
    PositiveBytes,
    PositiveBytesPerSecond,
    PositiveCount,
    PositiveFlopPerSecond,
    PositiveTokens,
    Seconds,
    Sourced,
    Strict,
    Tokens,
    Watts,
    quantity,
)
from simulator.documents.parse import parse, read
from simulator.documents.read import Limits
from simulator.documents.scalars import plain_scalar
from simulator.documents.validate import validate
from simulator.scenario.stated import MAX_GPUS, MAX_SIZE

__all__ = [
    "MAX_GPUS",
    "MAX_SIZE",
    "Also",
    "Bytes",
    "BytesPerSecond",
    "Count",
    "Document",
    "DollarsPerHour",
    "FlopPerSecond",
    "Fraction",
    "GpuCount",
    "Hertz",
    "Limits",
    "Name",
    "Place",
    "PositiveBytes",
    "PositiveBytesPerSecond",
    "PositiveCount",
    "PositiveFlopPerSecond",
    "PositiveTokens",
    "Seconds",
    "Sourced",
    "Strict",
    "Tokens",
    "Watts",
    "canonical",
    "dotted",
    "known_keys",
    "parse",
    "plain_scalar",
    "quantity",
    "read",
    "validate",
]
