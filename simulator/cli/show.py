"""``simulator show``: one catalogue entry, every number with its source."""

from __future__ import annotations

from simulator import catalogue
from simulator.catalogue.lookup import aliases, find, names
from simulator.cli.screen import show, show_json
from simulator.cli.settings import Json
from simulator.errors import CatalogueError, did_you_mean
from simulator.reports.entry_table import entry_table

_KINDS = ("gpu", "network", "model", "software")


def show_command(
    name: str,
    /,
    *,
    as_json: Json = False,
) -> int:
    """Show every number of a catalogue entry with its kind (datasheet, measured, fitted, assumed) and source.

    Args:
        name: A GPU, network, model or software stack; 'simulator list' names them.
        as_json: Print a JSON array of numbers.
    """
    found = [(kind, rows) for kind in _KINDS if (rows := _rows(kind, name))]
    if not found:
        known = [entry for kind in _KINDS for entry in (*names(kind), *aliases(kind))]
        near = did_you_mean(name, known) or "; 'simulator list gpus' (networks, models, software) names all"
        raise CatalogueError(f"the catalogue holds no {name!r}{near}")
    if as_json:
        show_json([{"kind_of_entry": kind, **row._asdict()} for kind, rows in found for row in rows])
    else:
        for kind, rows in found:
            show(entry_table(f"{kind} {find(kind, name)}", rows))
    return 0


def _rows(kind: str, name: str) -> tuple[catalogue.Row, ...]:
    try:
        return catalogue.describe(kind, name)
    except CatalogueError:
        return ()
