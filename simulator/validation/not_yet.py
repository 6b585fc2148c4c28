"""What published rows ask for that cannot be simulated yet.

Each entry is a value of a row's field and the reason it is counted under. Whoever builds the feature deletes
its line; nothing else has to change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.errors import RowError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.validation.degrees import Degrees
    from simulator.validation.rows import Row

SCHEDULES: Mapping[str, str] = {}

PRECISIONS: Mapping[str, str] = {
    "int8": "precision int8 is not simulated yet",
}

METHODS: Mapping[str, str] = {}


def refuse(row: Row, degrees: Degrees) -> None:
    """Refuse a row that asks for what is not built yet.

    Raises:
        RowError: With the reason to count the row under.
    """
    asked = (
        (SCHEDULES, row.schedule if degrees.pp > 1 else None),
        (PRECISIONS, row.precision),
        (METHODS, row.method),
    )
    for reasons, value in asked:
        if value is not None and value in reasons:
            raise RowError(reasons[value])
