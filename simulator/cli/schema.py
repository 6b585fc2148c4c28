"""``simulator schema``: the JSON Schema of scenario files."""

from __future__ import annotations

from simulator import files
from simulator.cli.screen import show_json


def schema_command() -> int:
    """Print the JSON Schema of scenario files, for editors."""
    show_json(files.json_schema())
    return 0
