"""Peak rates and sizes of number formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from simulator.scenario.gpu import Gpu

OPERAND_BYTES = {"fp32": 4.0, "tf32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "fp4": 0.5}
"""Bytes of one operand element; the scales of fp8 and fp4 blocks (under 7%) are left out."""


def peak_flop_per_s(gpu: Gpu, dtype: str) -> float:
    """Return the dense peak of a number format.

    Raises:
        ScenarioError: The GPU has no such format.
    """
    peak = gpu.peak_flop_per_s.get(dtype)
    if peak is None or dtype not in OPERAND_BYTES:
        formats = ", ".join(sorted(gpu.peak_flop_per_s))
        message = f"{gpu.name} does not multiply {dtype} matrices; it has {formats}"
        raise ScenarioError([Problem(message, path="training.precision")])
    return peak


def result_bytes(dtype: str) -> float:
    """Return the bytes of one element of a product: 4 after fp32 operands, 2 after all others."""
    return 4.0 if dtype in {"fp32", "tf32"} else 2.0
