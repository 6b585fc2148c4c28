"""Rerun every kernel fit and write ``simulator/catalogue/fitted``: ``python -m simulator.calibration``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import simulator.catalogue
from simulator.calibration.document import calibrate, text_of


def main() -> int:
    """Write the files and print how well each kernel family is met."""
    parser = argparse.ArgumentParser(prog="python -m simulator.calibration", description=__doc__)
    default = Path(simulator.catalogue.__file__).parent / "fitted"
    parser.add_argument("--output", type=Path, default=default, help="folder to write to")
    folder: Path = parser.parse_args().output
    found = calibrate()
    folder.mkdir(parents=True, exist_ok=True)
    for gpu, document in found.documents.items():
        (folder / f"{gpu}.yaml").write_text(text_of(document), encoding="utf-8", newline="\n")
    sys.stdout.write(f"{'GPU':<16}{'kernels':<18}{'points':>6}{'median':>9}{'mean':>9}{'worst':>9}\n")
    for (gpu, family), fitted in found.fits.items():
        errors = fitted.relative_errors
        shares = "".join(f"{share:>9.1%}" for share in (np.median(errors), errors.mean(), errors.max()))
        sys.stdout.write(f"{gpu:<16}{family:<18}{len(errors):>6}{shares}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
