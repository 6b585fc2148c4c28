"""How files of the catalogue state the fields of scenario data; what the schemas there are derived from.

    in the dataclass                                            in an entry's file
    bucket_bytes: Annotated[float, Gt(0)]                       bucket: {value: 100 MB, source: "..."}
    memory_bytes: Annotated[float, Gt(0), Key("memory.capacity")]   memory: {capacity: {value: ..., ...}}
    sorts_copies: Annotated[bool, Assumed("in order")] = False  may be left out: then False, "in order"
    kernel_launch_s: Annotated[float, FITTED]                   may be left out: then what was fitted

The ending of a field's name is its unit; the file writes that unit behind the number, not into the key. The
sentence under a field is its documentation, here and for who writes a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from annotated_types import Ge, Gt, Le, Lt

MAX_GPUS = 10_000_000
"""Ten times the largest planned cluster."""
MAX_SIZE = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Key:
    """Where a file states the field, if not under its name without the unit: ``memory.capacity``."""

    path: str


@dataclass(frozen=True, slots=True)
class Assumed:
    """Why the field's default holds where a file does not state the field."""

    why: str


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is fitted to measurements or published runs, unless a file states it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What only measurements say: no entry states it."""


FITTED: Final = Fitted()
MEASURED: Final = Measured()

Size = Annotated[int, Ge(1), Le(MAX_SIZE)]
"""A width, a number of heads, layers or GPUs of a node."""
Count = Annotated[int, Ge(0), Le(MAX_SIZE)]
Positive = Annotated[float, Gt(0)]
Amount = Annotated[float, Ge(0)]
Fraction = Annotated[float, Gt(0), Le(1)]
Share = Annotated[float, Ge(0), Lt(1)]
