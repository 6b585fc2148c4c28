"""Schedules as text: the CSV form that PyTorch and torchtitan read and write, one line per rank.

An action is stage, kind and micro-batch: ``2F0``, ``2B0``, ``2I0`` (input gradient), ``2W0`` (weight
gradient); two that run together are ``(0F9;7B0)OVERLAP_F_B``. Empty cells say that a rank waits: the
simulator finds out by itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from simulator.schedules.action import Action, Overlapped
from simulator.schedules.op_kind import OpKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.schedules.action import Entry, Order

CUSTOM = "custom"
"""Name of a schedule that is read from a file."""
_KINDS = {
    "F": OpKind.FORWARD,
    "B": OpKind.BACKWARD,
    "I": OpKind.BACKWARD_INPUT,
    "W": OpKind.BACKWARD_WEIGHT,
}
_LETTERS = {kind: letter for letter, kind in _KINDS.items()}
_PASS = re.compile(r"(\d+)([FBIW])(\d+)")
_PAIR = re.compile(r"\(([^;]+);([^;]+)\)OVERLAP_F_B")
_COMMUNICATION = re.compile(r"\d+(UNSHARD|RESHARD|REDUCE_GRAD|(SEND|RECV)_[FB])\d*")


def write_entry(entry: Entry) -> str:
    """Return PyTorch's name of an action.

    >>> first, second = Action(OpKind.FORWARD, 0, 9), Action(OpKind.BACKWARD, 7, 0)
    >>> write_entry(first), write_entry(Overlapped(first, second))
    ('0F9', '(0F9;7B0)OVERLAP_F_B')
    """
    if isinstance(entry, Overlapped):
        return f"({write_entry(entry.forward)};{write_entry(entry.backward)})OVERLAP_F_B"
    return f"{entry.stage}{_LETTERS[entry.kind]}{entry.microbatch}"


def write_rows(order: Order) -> tuple[str, ...]:
    """Return one line per rank."""
    return tuple(",".join(map(write_entry, entries)) for entries in order)


def read_entry(text: str) -> Entry | None:
    """Read an action; None for a cell without work.

    Communication that PyTorch writes into lowered schedules is left out: it follows from the passes.

    Raises:
        ValueError: The text is no action.
    """
    if not text or _COMMUNICATION.fullmatch(text):
        return None
    if pair := _PAIR.fullmatch(text):
        forward, backward = (read_entry(part.strip()) for part in pair.groups())
        if isinstance(forward, Action) and isinstance(backward, Action):
            return Overlapped(forward, backward)
    if found := _PASS.fullmatch(text):
        stage, letter, microbatch = found.groups()
        return Action(_KINDS[letter], int(stage), int(microbatch))
    raise ValueError(f"{text!r} is no action; actions look like 0F0, 0B0, 0I0, 0W0 or (0F9;7B0)OVERLAP_F_B")


def read_rows(rows: Iterable[str]) -> Order:
    """Read one line per rank.

    >>> write_rows(read_rows(["0F0,,0B0", "1F0, 1B0"]))
    ('0F0,0B0', '1F0,1B0')

    Raises:
        ValueError: A cell is no action.
    """
    lines = ((read_entry(cell.strip()) for cell in row.split(",")) for row in rows)
    return tuple(tuple(entry for entry in line if entry is not None) for line in lines)
