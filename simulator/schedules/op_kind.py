"""What an op is for; reports colour and account by it."""

from __future__ import annotations

from enum import IntEnum


class OpKind(IntEnum):
    """What an op is for; reports colour and account by it."""

    FORWARD = 0
    BACKWARD = 1
    BACKWARD_INPUT = 2
    BACKWARD_WEIGHT = 3
    KERNEL = 4
    COLLECTIVE = 5
    TRANSFER = 6
    OPTIMIZER = 7
    OVERHEAD = 8
    OUTPUT_FORWARD = 9
    OUTPUT_BACKWARD = 10

    __hash__ = int.__hash__  # Enum's own hashes the name, which takes longer than a dictionary's look-up
