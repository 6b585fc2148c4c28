"""Fit what measured collectives add to NCCL's own tables.

``simulator calibrate collectives`` writes ``catalogue/fitted/collectives.yaml``. One set of
corrections for all, three fractions per GPU, an efficiency and a latency per fabric. Loss: the absolute
logarithm of predicted over measured time, smoothed near zero; a curve weighs the square root of its points.
"""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ruamel.yaml import YAML
from scipy.optimize import least_squares  # type: ignore[import-untyped]

from simulator.calibration.collective_curves import (
    SMALLEST_BYTES,
    Measurements,
    fitted,
    log_errors,
    measurements,
    table,
)
from simulator.costs.nccl_constants import Corrections
from simulator.scenario import CollectiveEfficiency

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LINE_RATE = 0.969
"""What one NIC reaches without NCCL: ib_write_bw, 193.72 of 200 Gb/s (ml-engineering, network, 744d01e1)."""

COPY_RATE = 0.91
"""The most that copies between two GPUs reach of a link: 274 of 300 GB/s on an A100 (the same source)."""

STRONG, MIDDLING, WEAK = 3.0, 0.5, 0.02
"""Pull towards published peaks, towards 94% of the line rate (nccl-tests issue 290), and towards guesses."""


GUESS = Corrections(
    start_s=20e-6,
    network_hop_factor=1.0,
    pipeline_fill=1.0,
    tree_channel_share=0.214,
    peer_s=1e-6,
    network_peer_s=5e-6,
)
"""What is assumed before any curve is seen, held weakly: NCCL's tables and the theory of pipelines as they
are, 192.5 of the 900 GB/s of a B200's NVLink (together-nccl-tests), the order of a launch and of one hop for
each peer. The fit starts here and not where the last one ended, so that rerunning it changes nothing."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The vector that the optimiser moves, as logarithms of positive numbers, and what its parts mean."""

    measured: Measurements

    def start(self) -> NDArray[np.float64]:
        """Return what is assumed before the fit: guesses, published peaks and 94% of the line rate."""
        values = list(asdict(GUESS).values())
        for gpu in self.measured.gpus.values():
            reach = gpu.collectives
            values += [reach.ring_fraction, reach.reduction_fraction, reach.exchange_fraction]
        for fabric in self.measured.fabrics.values():
            values += [fabric.efficiency, fabric.latency_s]
        return np.asarray([math.log(value) for value in values])

    def pull(self) -> NDArray[np.float64]:
        """Return how strongly each number is drawn to where it starts: published peaks more than guesses."""
        corrections = len(fields(Corrections))
        per_gpu = [STRONG] * 3 * len(self.measured.gpus)
        return np.asarray([WEAK] * corrections + per_gpu + [MIDDLING, WEAK] * len(self.measured.fabrics))

    def ceiling(self) -> NDArray[np.float64]:
        """Return the most that each number can be."""
        corrections = [math.inf] * len(fields(Corrections))
        per_gpu = [math.log(COPY_RATE)] * 3 * len(self.measured.gpus)
        return np.asarray(
            corrections + per_gpu + [math.log(LINE_RATE), math.inf] * len(self.measured.fabrics)
        )

    def apply(self, vector: NDArray[np.float64]) -> tuple[Corrections, Measurements]:
        """Return corrections, GPUs and fabrics with the numbers of a vector."""
        numbers = iter(np.exp(vector).tolist())
        corrections = Corrections(**{item.name: next(numbers) for item in fields(Corrections)})
        gpus = {}
        for name, gpu in self.measured.gpus.items():
            ring, reduction, exchange = (next(numbers) for _ in range(3))
            reach = CollectiveEfficiency(
                ring_fraction=ring, reduction_fraction=reduction, exchange_fraction=exchange
            )
            gpus[name] = replace(gpu, collectives=reach)
        fabrics = {
            name: replace(fabric, efficiency=next(numbers), latency_s=next(numbers))
            for name, fabric in self.measured.fabrics.items()
        }
        return corrections, replace(self.measured, gpus=gpus, fabrics=fabrics)


def fit() -> Mapping[str, Any]:
    """Fit all parameters and return them by name: ``corrections``, ``gpus`` and ``fabrics``."""
    measured = measurements()
    parameters = Parameters(measured)
    start, pull = parameters.start(), parameters.pull()

    def residuals(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        corrections, moved = parameters.apply(vector)
        rest = [
            error / math.sqrt(math.sqrt(len(curve.points)))
            for curve in moved.curves
            if not curve.check_only
            for error, (size, _) in zip(log_errors(curve, moved, corrections), curve.points, strict=True)
            if size >= SMALLEST_BYTES
        ]
        return np.asarray(rest + (pull * (vector - start)).tolist())

    bounds = (-np.inf, parameters.ceiling())
    solution = least_squares(residuals, start, bounds=bounds, loss="soft_l1", f_scale=0.1, max_nfev=60)
    corrections, moved = parameters.apply(solution.x)
    return {
        "corrections": {name: _rounded(value) for name, value in asdict(corrections).items()},
        "gpus": {
            name: {key: _rounded(value) for key, value in asdict(gpu.collectives).items()}
            for name, gpu in moved.gpus.items()
        },
        "fabrics": {
            name: {"efficiency": _rounded(fabric.efficiency), "latency_s": _rounded(fabric.latency_s)}
            for name, fabric in moved.fabrics.items()
        },
    }


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def text_of(values: Mapping[str, Any]) -> str:
    """Write a fit as it is kept."""
    text = io.StringIO()
    YAML().dump(dict(values), text)
    return _HEADER + text.getvalue()


def report(values: Mapping[str, Any]) -> str:
    """Return how well a fit does, by GPU, fabric and collective."""
    return "\n".join(table(fitted(values), Corrections(**values["corrections"])))


_HEADER = """# Fitted to measurements/collectives.yaml by `simulator calibrate collectives`.
# gpus: shares of the one-way scale-up bandwidth.
# fabrics: share of the NIC rate, and latency beyond NCCL's tables.
"""
