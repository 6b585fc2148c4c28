"""The fitted files of the catalogue: one per GPU, written by ``simulator calibrate kernels``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.calibration.fit_attention import CASES, fit_attention
from simulator.calibration.fit_elementwise import GPUS, fit_elementwise
from simulator.calibration.fit_gemm import fit_gemms
from simulator.calibration.number import COMMAND, Number

if TYPE_CHECKING:
    from simulator.calibration.fit import Fit

Node = Mapping[str, "Node | Number"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """All fits.

    Attributes:
        documents: Fitted numbers by GPU, nested as in the files.
        fits: The fits behind them, by GPU and kernel family.
    """

    documents: Mapping[str, Node]
    fits: Mapping[tuple[str, str], Fit]


def calibrate() -> Calibration:
    """Run every fit."""
    gemm_parts, gemm_fits = fit_gemms()
    fits = {(gpu, f"gemm {dtype}"): found for (gpu, dtype), found in gemm_fits.items()}
    documents: dict[str, dict[str, dict[str, Node] | Number]] = {}
    for (gpu, dtype), part in sorted(gemm_parts.items()):
        _section(documents, gpu, "gemm")[dtype] = part
    for case in CASES:
        passes, fits[case.gpu, f"attention {case.kernel}"] = fit_attention(case)
        _section(documents, case.gpu, "attention")[case.kernel] = passes
    for gpu in GPUS:
        numbers, fits[gpu, "elementwise"] = fit_elementwise(gpu)
        documents.setdefault(gpu, {}).update(numbers)
    return Calibration(documents, fits)


def text_of(document: Node) -> str:
    """Write a document as YAML, the same bytes for the same numbers."""
    return f"# Written by `{COMMAND}`; do not edit.\n" + "\n".join(_lines(document, "")) + "\n"


def _section(
    documents: dict[str, dict[str, dict[str, Node] | Number]], gpu: str, name: str
) -> dict[str, Node]:
    section = documents.setdefault(gpu, {}).setdefault(name, {})
    if isinstance(section, Number):
        raise TypeError(name)
    return section


def _lines(node: Node, indent: str) -> Iterator[str]:
    for key, item in node.items():
        if isinstance(item, Number):
            value, uncertainty = _digits(item.value), _digits(item.uncertainty)
            numbers = f"value: {value}, uncertainty: {uncertainty}, points: {item.points}, kind: {item.kind}"
            yield f'{indent}{key}: {{{numbers}, source: "{item.source}"}}'
        else:
            yield f"{indent}{key}:"
            yield from _lines(item, indent + "  ")


def _digits(value: float | tuple[float, ...]) -> str:
    """Write three significant digits, more than any of the fits is worth."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_digits, value))}]"
    if isinstance(value, int):
        return str(value)
    return repr(float(f"{value:.3g}"))
