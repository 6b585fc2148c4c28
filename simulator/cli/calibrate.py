"""``simulator calibrate``: rerun the fits behind the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from simulator.cli.screen import note, show_text
from simulator.errors import InputError, did_you_mean
from simulator.reports.output import write_whole


def calibrate_command(
    parts: list[str] | None = None,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> int:
    """Rerun fits from the measurements in the package and write the catalogue's fitted numbers.

    Args:
        parts: kernels, collectives or training; all three when left out.
        output: Folder to write to, for example to compare; the catalogue itself when left out.
    """
    from simulator.calibration.parts import FITTED, PARTS

    chosen = parts or list(PARTS)
    if unknown := [part for part in chosen if part not in PARTS]:
        lines = [f"no fit named {part!r}{did_you_mean(part, PARTS)}" for part in unknown]
        raise InputError("\n".join(lines) + f"\nfits are {', '.join(PARTS)}")
    folder = output or FITTED
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; create it first")
    for part in dict.fromkeys(chosen):
        try:
            found = PARTS[part](note)
        except ModuleNotFoundError as error:
            raise InputError(
                f"calibration needs {error.name}: install the extra 'calibrate', as in"
                " python -m pip install '.[calibrate]'"
            ) from error
        for name, text in found.files.items():
            write_whole(folder / name, text.encode())
        show_text(f"{part}: {len(found.files)} files in {folder}\n{found.table}")
    return 0
