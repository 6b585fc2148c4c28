"""The fits that can be rerun: what each writes, and how well it is met."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import simulator.catalogue

FITTED = Path(simulator.catalogue.__file__).parent / "fitted"
"""The catalogue's fitted files."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Rerun:
    """What a fit says.

    Attributes:
        files: Text by file name.
        table: How well it is met, for people.
    """

    files: Mapping[str, str]
    table: str


def kernels(_: Report) -> Rerun:
    """Fit GEMMs, attention and memory-bound kernels to measurements of their own."""
    import numpy as np  # noqa: PLC0415  scipy and numpy load when a fit runs

    from simulator.calibration.document import calibrate, text_of  # noqa: PLC0415  as above

    found = calibrate()
    lines = [f"{'GPU':<16}{'kernels':<18}{'points':>6}{'median':>9}{'mean':>9}{'worst':>9}"]
    for (gpu, family), fitted in found.fits.items():
        errors = fitted.relative_errors
        shares = "".join(f"{share:>9.1%}" for share in (np.median(errors), errors.mean(), errors.max()))
        lines.append(f"{gpu:<16}{family:<18}{len(errors):>6}{shares}")
    files = {f"{gpu}.yaml": text_of(document) for gpu, document in found.documents.items()}
    return Rerun(files, "\n".join(lines))


def collectives(_: Report) -> Rerun:
    """Fit what measured collectives add to NCCL's tables."""
    from simulator.calibration.fit_collectives import fit, report, text_of  # noqa: PLC0415  loads scipy

    values = fit()
    return Rerun({"collectives.yaml": text_of(values)}, report(values))


def training(report: Report) -> Rerun:
    """Fit what only whole training steps show to the published runs; minutes."""
    from simulator.calibration.training import document  # noqa: PLC0415  simulates
    from simulator.calibration.training.fit import fit_training  # noqa: PLC0415  as above

    found = fit_training(report)
    files = {
        "training.yaml": document.constants_text(found),
        "leave_one_out.yaml": document.without_text(found),
    }
    return Rerun(files, document.table_text(found))


PARTS: Mapping[str, Callable[[Report], Rerun]] = {
    "kernels": kernels,
    "collectives": collectives,
    "training": training,
}
"""By name, in the order in which they build on each other."""
