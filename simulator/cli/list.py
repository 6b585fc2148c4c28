"""``simulator list``: names in the catalogue."""

from __future__ import annotations

from typing import Literal

from simulator import catalogue
from simulator.cli.screen import show_json, show_text
from simulator.cli.settings import Json
from simulator.schedules import SCHEDULES

Kind = Literal["gpus", "networks", "models", "software", "schedules"]


def list_command(
    kind: Kind,
    /,
    *,
    as_json: Json = False,
) -> int:
    """List what the catalogue holds, one name per line.

    Args:
        kind: What to list.
        as_json: Print a JSON array.
    """
    names = sorted(SCHEDULES) if kind == "schedules" else catalogue.names(kind)
    show_json(list(names)) if as_json else show_text("\n".join(names))
    return 0
