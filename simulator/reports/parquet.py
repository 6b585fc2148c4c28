"""A table as Parquet, for pandas, polars and DuckDB."""

from __future__ import annotations

import io
import json
from importlib.util import find_spec
from typing import TYPE_CHECKING

from simulator.errors import InputError
from simulator.reports.output import check_writable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_MISSING = "Parquet needs the extra 'data': python -m pip install '.[data]'"


def check_parquet(path: Path) -> None:
    """Check, before any work is done, that a table can be written to a ``.parquet`` file.

    Raises:
        InputError: pyarrow is missing, or as ``check_writable``.
    """
    check_writable(path, (".parquet",))
    if find_spec("pyarrow") is None:
        raise InputError(_MISSING)


def parquet_bytes(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Write rows of equal keys; lists and mappings become JSON text.

    Raises:
        InputError: pyarrow is missing.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415  an extra
        from pyarrow import parquet  # noqa: PLC0415  as above
    except ModuleNotFoundError as error:
        raise InputError(_MISSING) from error
    names = list(rows[0]) if rows else []
    columns = {name: _column([row[name] for row in rows]) for name in names}
    target = io.BytesIO()
    parquet.write_table(pa.table(columns), target)
    return target.getvalue()


def _column(values: Sequence[object]) -> list[object]:
    """Return values of one kind: a column of numbers and words becomes words."""
    plain = [json.dumps(value) if isinstance(value, list | tuple | dict) else value for value in values]
    kinds = {float if type(value) is int else type(value) for value in plain if value is not None}
    return plain if len(kinds) <= 1 else [None if value is None else str(value) for value in plain]
