"""Fit ``GemmEfficiency`` to measured GEMMs.

What a GPU sustains depends on power, power on the data: tiny or zero operands draw less and keep clocks high
(ThunderKittens README; H. He, "Strangely, matrix multiplications run faster when given predictable data").
Training data is random and training lasts, so ``sustained_fraction`` follows the sources that ran random data
until clocks had settled. The others, vidur above all, tell the shape dependence only: each has a scale of its
own, known to 10%. Sources whose times contain the host's launch have that as a constant of their own too.

GPUs and formats without a settled measurement: ``calibration.settled``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.calibration.devices import datasheet
from simulator.calibration.fit import Fit, Prior, Values, fit
from simulator.calibration.number import Number, Part, provenance
from simulator.calibration.settled import Case, Parts, from_best, from_power
from simulator.calibration.tables import Point, gemm_points
from simulator.costs.gemm import gemm_s
from simulator.scenario import GemmEfficiency
from simulator.workload.work import Gemm

if TYPE_CHECKING:
    from collections.abc import Sequence

MEASURED = (
    ("b200", "bf16"),
    ("a100-80gb-pcie", "bf16"),
    ("a100-80gb-sxm", "bf16"),
    ("a100-40gb-sxm", "bf16"),
    ("v100-32gb-sxm", "fp16"),
    ("mi250x-gcd", "bf16"),
    ("h100-80gb-sxm", "fp8"),
    ("h200-141gb", "fp8"),
    ("h800-80gb", "fp8"),
    ("h100-80gb-sxm", "bf16"),
)
_SAME_DIE = {("h100-80gb-sxm", "bf16"): ("h800-80gb",)}
# Wide guesses: where the data says something, it decides; where not, the uncertainty stays that wide.
_PRIORS = {
    "sustained_fraction": Prior(0.80, 0.30, 1.0),
    "memory_fraction": Prior(0.85, 0.20, 1.0),
    "exposed_store_fraction": Prior(0.50, 0.50, 1.0),
    "ramp_s": Prior(4e-6, 0.50),
    "smoothness": Prior(4.0, 0.40, 8.0),
    "tile_128x128": Prior(0.95, 0.08, 1.0),
    "tile_128x64": Prior(0.85, 0.12, 1.0),
    "tile_64x64": Prior(0.65, 0.25, 1.0),
    "group_ramp_s": Prior(8e-6, 0.70),
}
# Host launch of one PyTorch matmul, 10 to 20 us.
_LAUNCH = Prior(15e-6, 0.70)
_SCALE = Prior(1.0, 0.10)
_TILES = ("tile_128x128", "tile_128x64", "tile_64x64")


def fit_gemms() -> tuple[Parts, dict[Case, Fit]]:
    """Fit every GPU and format that was measured, and derive those of which only a peak is known.

    Returns:
        The efficiencies by GPU and format, and the fits behind the measured ones.
    """
    parts: Parts = {}
    fits: dict[Case, Fit] = {}
    for case in MEASURED:
        parts[case], fits[case] = fit_case(*case)
        if not any(piece.grouped for point in points_of(*case) for piece in _gemms(point)):
            lender = "a100-80gb-pcie" if case[0].startswith("a100") else "b200"
            parts[case] = {
                **parts[case],
                "group_ramp_s": parts[lender, "bf16"]["group_ramp_s"].assumed_from(lender),
            }
    return parts | from_best(parts) | from_power(parts), fits


def fit_case(gpu: str, dtype: str) -> tuple[Part, Fit]:
    """Fit one GPU and number format.

    Args:
        gpu: Catalogue name.
        dtype: Number format.
    """
    points = points_of(gpu, dtype)
    sources = list(dict.fromkeys(point.source for point in points))
    priors = dict(_PRIORS) | {f"launch_s.{s.key}": _LAUNCH for s in sources if s.includes_launch}
    priors |= {f"scale.{s.key}": _SCALE for s in sources if not s.sustained}

    def predict(values: Values) -> Sequence[float]:
        efficiency = as_efficiency(values)
        gpus = {name: replace(datasheet(name), gemm={dtype: efficiency}) for name in {p.gpu for p in points}}
        return [
            sum(gemm_s(piece, gpus[point.gpu]) for piece in _gemms(point))
            / values.get(f"scale.{point.source.key}", 1.0)
            + values.get(f"launch_s.{point.source.key}", 0.0)
            for point in points
        ]

    found = fit(priors, predict, [point.seconds for point in points])
    return _part(found, len(points), provenance("gemm", sources)), found


def points_of(gpu: str, dtype: str) -> tuple[Point, ...]:
    """Return the measurements of a GPU and of those with the same die."""
    names = (gpu, *_SAME_DIE.get((gpu, dtype), ()))
    return tuple(point for name in names for point in gemm_points(name, dtype))


def as_efficiency(values: Values) -> GemmEfficiency:
    """Return fitted values as the costs use them."""
    return GemmEfficiency(
        sustained_fraction=values["sustained_fraction"],
        memory_fraction=values["memory_fraction"],
        exposed_store_fraction=values["exposed_store_fraction"],
        ramp_s=values["ramp_s"],
        smoothness=values["smoothness"],
        tile_efficiency=(1.0, values[_TILES[0]], values[_TILES[1]], values[_TILES[2]]),
        group_ramp_s=values["group_ramp_s"],
    )


def _gemms(point: Point) -> list[Gemm]:
    return [piece for piece in point.work if isinstance(piece, Gemm)]


def _part(found: Fit, points: int, source: str) -> Part:
    def number(value: float | tuple[float, ...], uncertainty: float | tuple[float, ...]) -> Number:
        return Number(value=value, uncertainty=uncertainty, points=points, kind="fitted", source=source)

    simple = [name for name in _PRIORS if name not in _TILES]
    part = {name: number(found.values[name], found.uncertainty[name]) for name in simple}
    tiles = tuple(found.values[name] for name in _TILES)
    part["tile_efficiency"] = number((1.0, *tiles), (0.0, *(found.uncertainty[name] for name in _TILES)))
    return part
