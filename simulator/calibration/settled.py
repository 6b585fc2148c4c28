"""Sustained rates of GPUs and formats whose GEMMs were not measured until clocks and power had settled.

The best shape of a search (MAMF: 100 iterations of random data) stands in, times the ratio of settled to best
on the GPUs that have both: short runs stay cooler, and a search keeps its luckiest shape.

Blackwell is limited by power, and there the settled rate scales with the power limit: the energy per FLOP of
SimuMax's bf16 on B200 (1,000 W) and of Azure's fp8 on GB200 (1,200 W) gives the others.
"""

from __future__ import annotations

from math import exp, log

from simulator.calibration.devices import datasheet
from simulator.calibration.number import Number, Part, provenance
from simulator.calibration.tables import gemm_points, peaks

Case = tuple[str, str]
Parts = dict[Case, Part]

BETWEEN_GPUS = 0.05
"""Spread of one rate between GPUs of one node (stas00/ml-engineering, compute/accelerator/README.md)."""
_SETTLED_AND_BEST = (
    ("a100-80gb-sxm", "bf16"),
    ("h100-80gb-sxm", "bf16"),
    ("h100-80gb-sxm", "fp8"),
    ("h200-141gb", "fp8"),
)
_BEST_ONLY = ("gh200-96gb", "mi300x", "mi325x", "mi355x", "gaudi2", "gaudi3")
_POWER_LIMITED = ("b200", "gb200", "b300", "gb300")


def settled_ratio(parts: Parts) -> float:
    """Return the settled rate over the best of a short search: geometric mean of GPUs that have both."""
    ratios = [_rate(parts, case) / _best(case) for case in _SETTLED_AND_BEST]
    return exp(sum(map(log, ratios)) / len(ratios))


def from_best(parts: Parts) -> Parts:
    """Return the parts of GPUs of which only the best shape is known; the rest is that of the H100."""
    ratio = settled_ratio(parts)
    remark = f"best shape x {ratio:.3f} (settled over best on A100, H100 and H200): "
    return {
        (peak.gpu, peak.dtype): _with_rate(
            parts["h100-80gb-sxm", peak.dtype],
            lender="h100-80gb-sxm",
            fraction=peak.flop_per_s * ratio / datasheet(peak.gpu).peak_flop_per_s[peak.dtype],
            source=provenance("gemm", [peak.source], remark),
        )
        for peak in peaks("best_of_search")
        if peak.gpu in _BEST_ONLY
    }


def from_power(parts: Parts) -> Parts:
    """Return the parts of Blackwell GPUs that were not fitted; the rest is that of the B200 in bf16."""
    (azure,) = peaks("sustained")
    simumax = gemm_points("b200", "bf16")[0].source
    joules_per_flop = {
        "bf16": (datasheet("b200").tdp_watts / _rate(parts, ("b200", "bf16")), simumax),
        "fp8": (datasheet(azure.gpu).tdp_watts / azure.flop_per_s, azure.source),
    }
    return {
        (gpu, dtype): _with_rate(
            parts["b200", "bf16"],
            lender="b200",
            fraction=datasheet(gpu).tdp_watts / energy / datasheet(gpu).peak_flop_per_s[dtype],
            source=provenance("gemm", [source], f"power limit over {energy * 1e12:.3f} J/TFLOP: "),
        )
        for gpu in _POWER_LIMITED
        for dtype, (energy, source) in joules_per_flop.items()
        if (gpu, dtype) not in parts
    }


def _with_rate(part: Part, *, lender: str, fraction: float, source: str) -> Part:
    """Return a part with a sustained rate of its own and everything else from another GPU."""
    lent = {name: number.assumed_from(lender) for name, number in part.items()}
    own = Number(
        value=min(1.0, fraction),
        uncertainty=BETWEEN_GPUS * fraction,
        points=1,
        kind="fitted",
        source=source,
    )
    return {**lent, "sustained_fraction": own}


def _best(case: Case) -> float:
    return next(peak.flop_per_s for peak in peaks("best_of_search") if (peak.gpu, peak.dtype) == case)


def _rate(parts: Parts, case: Case) -> float:
    fraction = parts[case]["sustained_fraction"].value
    assert isinstance(fraction, float)  # noqa: S101  tile efficiencies alone are tuples
    return fraction * datasheet(case[0]).peak_flop_per_s[case[1]]
