"""Does it choose rightly? Runs of one model on one cluster that differ in their layout only.

What a user lives by is not the number but the decision: whether the simulator orders layouts as the machine
does, and what the layout that it ranks first yields.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from simulator.validation.compare import Comparison
    from simulator.validation.outcome import RowOutcome
    from simulator.validation.rows import Row

LEAST_ROWS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutSweep:
    """One sweep over layouts.

    Attributes:
        source: Where it was published.
        name: Model, GPUs, sequence length and batch.
        rows: Layouts measured.
        rank_correlation: Spearman's correlation of predicted and measured throughput.
        choice: Measured throughput of the layout that is predicted to be the fastest, over the best measured.
    """

    source: str
    name: str
    rows: int
    rank_correlation: float
    choice: float


def sweep_name(row: Row) -> str:
    """Name what the rows of a sweep share, kernels included; all else is layout."""
    shape = "/".join(str(value) for value in row.arch.model_dump().values() if value is not None)
    batch = f"{row.global_batch} x {row.seq_len} tokens"
    precision = "" if row.precision is None else f", {row.precision}"
    kernels = "".join(f", {name}" for name in (row.kernel or row.attention,) if name)
    return f"{row.model} ({shape}) on {row.gpus} {row.gpu}, {batch}{precision}{kernels}, {row.stack}"


def layout_sweeps(simulated: Sequence[tuple[RowOutcome, Comparison]]) -> tuple[LayoutSweep, ...]:
    """Judge every sweep of at least ``LEAST_ROWS`` simulated rows whose throughput is not all the same."""
    groups: dict[tuple[str, str], list[tuple[RowOutcome, Comparison]]] = defaultdict(list)
    for row, found in simulated:
        groups[row.source, row.sweep].append((row, found))
    sweeps = []
    for (source, name), members in groups.items():
        measured = np.array([found.measured_tflops for _, found in members])
        predicted = measured * np.array([1.0 + found.error for _, found in members])
        if name and len(members) >= LEAST_ROWS and np.ptp(measured) > 0:
            sweeps.append(
                LayoutSweep(
                    source=source,
                    name=name,
                    rows=len(members),
                    rank_correlation=spearman(predicted, measured),
                    choice=float(measured[int(np.argmax(predicted))] / measured.max()),
                )
            )
    return tuple(sweeps)


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation; 0 where one of the two does not vary.

    >>> round(spearman(np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 30.0, 20.0, 40.0])), 2)
    0.8
    """
    centred = [ranks - ranks.mean() for ranks in (_ranks(first), _ranks(second))]
    sizes = [float(np.linalg.norm(ranks)) for ranks in centred]
    return float(centred[0] @ centred[1]) / (sizes[0] * sizes[1]) if all(sizes) else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle: NDArray[np.float64] = last - (counts - 1) / 2.0
    return middle[inverse]
