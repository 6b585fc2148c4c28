"""A fitted number with what is needed to judge it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.calibration.tables import Source
    from simulator.scenario.provenance import Kind

COMMAND = "simulator calibrate kernels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One leaf of a fitted file.

    Attributes:
        value: The number, or one per size.
        uncertainty: Its standard error.
        points: Measurements that it was fitted to.
        kind: ``fitted``, or ``assumed`` when it was fitted on another GPU.
        source: Data and command.
    """

    value: float | tuple[float, ...]
    uncertainty: float | tuple[float, ...]
    points: int
    kind: Kind
    source: str

    def assumed_from(self, gpu: str) -> Number:
        """Return the same number as an assumption about another GPU."""
        return replace(self, kind="assumed", source=f"as fitted on {gpu}: {self.source}")


Part = Mapping[str, Number]


def provenance(name: str, sources: Iterable[Source], remark: str = "") -> str:
    """Name the data of a fit and the command that reruns it."""
    keys = ", ".join(dict.fromkeys(source.key for source in sources))
    return f"{remark}{keys} (simulator/calibration/measurements/{name}.yaml); rerun: {COMMAND}"
