"""Fit ``AttentionEfficiency`` to measured FlashAttention and cuDNN kernels.

Forward and backward are fitted together, because some sources state only both. A100 takes flash2 from
the FlashAttention-2 paper (SXM) and from Transformer Engine on the PCIe card, whose lower power limit is a
scale of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from simulator.calibration.devices import datasheet
from simulator.calibration.fit import Fit, Prior, Values, fit
from simulator.calibration.number import Number, Part, provenance
from simulator.calibration.tables import Point, attention_points
from simulator.costs.attention import attention_s
from simulator.scenario import AttentionEfficiency, AttentionPass
from simulator.workload.work import Attention


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kernel on one GPU.

    Attributes:
        gpu: Catalogue name.
        kernel: ``flash1``, ``flash2``, ``flash3`` or ``cudnn``.
        also: Measurements of other GPUs with the same die, each with a scale of its own.
        forward_rows: Queries of one thread block; cuDNN on Blackwell gives a block two tiles of 128.
        forward_fraction: What is known of the forward fraction where only both passes together were measured.
    """

    gpu: str
    kernel: str
    also: tuple[str, ...] = ()
    forward_rows: int = 128
    forward_fraction: Prior | None = None


CASES = (
    # FlashAttention-2 (arXiv:2307.08691), section 1: FlashAttention reaches 30 to 50% of the peak forward.
    Case(gpu="a100-80gb-sxm", kernel="flash1", forward_fraction=Prior(0.50, 0.15, 1.0)),
    Case(gpu="a100-80gb-sxm", kernel="flash2", also=("a100-80gb-pcie",)),
    Case(gpu="h100-80gb-sxm", kernel="flash1", forward_fraction=Prior(0.26, 0.15, 1.0)),
    Case(gpu="h100-80gb-sxm", kernel="flash2"),
    Case(gpu="h100-80gb-sxm", kernel="flash3"),
    Case(gpu="h100-80gb-sxm", kernel="cudnn"),
    Case(gpu="h200-141gb", kernel="cudnn"),
    Case(gpu="b200", kernel="flash2"),
    Case(gpu="b200", kernel="cudnn", forward_rows=256),
    Case(gpu="gb200", kernel="cudnn", forward_rows=256),
    Case(gpu="gb300", kernel="cudnn", forward_rows=256),
)
_BACKWARD_ROWS = 128
_SCALE = Prior(1.0, 0.10)
_PRIORS: Mapping[str, Mapping[str, Prior]] = {
    "forward": {
        "fraction": Prior(0.80, 0.50, 1.0),
        "softmax_width": Prior(50.0, 0.60),
        "overhead_length": Prior(100.0, 0.70),
        "edge_length": Prior(64.0, 0.50),
    },
    "backward": {
        "fraction": Prior(0.60, 0.50, 1.0),
        "softmax_width": Prior(30.0, 0.60),
        "overhead_length": Prior(200.0, 0.70),
        "edge_length": Prior(64.0, 0.50),
    },
}

AttentionParts = Mapping[str, Part]


def fit_attention(case: Case) -> tuple[AttentionParts, Fit]:
    """Fit one kernel on one GPU.

    Returns:
        The numbers of ``forward`` and ``backward``, and the fit behind them.
    """
    points = attention_points((case.gpu, *case.also), case.kernel)
    priors = {f"{way}.{name}": prior for way, named in _PRIORS.items() for name, prior in named.items()}
    if case.forward_fraction:
        priors["forward.fraction"] = case.forward_fraction
    priors |= {f"scale.{gpu}": _SCALE for gpu in case.also}

    def predict(values: Values) -> Sequence[float]:
        reached = as_efficiency(values, case)
        gpus = {
            name: replace(datasheet(name), attention={case.kernel: reached})
            for name in (case.gpu, *case.also)
        }
        return [
            sum(attention_s(piece, gpus[point.gpu]) for piece in _attentions(point))
            / values.get(f"scale.{point.gpu}", 1.0)
            for point in points
        ]

    found = fit(priors, predict, [point.seconds for point in points])
    source = provenance("attention", [point.source for point in points])
    return {way: _part(way, found, case, len(points), source) for way in _PRIORS}, found


def as_efficiency(values: Values, case: Case) -> AttentionEfficiency:
    """Return fitted values as the costs use them."""
    passes = {
        way: AttentionPass(
            **{name: values[f"{way}.{name}"] for name in named},
            block_rows=case.forward_rows if way == "forward" else _BACKWARD_ROWS,
        )
        for way, named in _PRIORS.items()
    }
    return AttentionEfficiency(**passes)


def _part(way: str, found: Fit, case: Case, points: int, source: str) -> Part:
    part = {
        name: Number(
            value=found.values[f"{way}.{name}"],
            uncertainty=found.uncertainty[f"{way}.{name}"],
            points=points,
            kind="fitted",
            source=source,
        )
        for name in _PRIORS[way]
    }
    rows = case.forward_rows if way == "forward" else _BACKWARD_ROWS
    tiles = "tile of the kernel: FlashAttention-2 and -3 source, cuDNN assumed alike (two tiles on Blackwell)"
    part["block_rows"] = Number(value=rows, uncertainty=0, points=0, kind="assumed", source=tiles)
    return part


def _attentions(point: Point) -> list[Attention]:
    return [piece for piece in point.work if isinstance(piece, Attention)]
