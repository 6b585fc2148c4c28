"""Matrix products on systolic arrays (the MXU of a TPU): whole arrays of weights, activations streamed past.

After Austin et al., "How to Scale Your Model" (2025), chapter 2 and its appendix B: an array of side u holds
u x u weights and multiplies 8 rows of activations by them in 8 cycles; loading the next weights is hidden.
Widths are padded to u, "smaller axes are padded" too, so that a head of 128 takes half of a 256-wide array.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.workload.work import Gemm

ROWS = 8
"""Rows of activations that pass an array together."""


def padded(width: int, unit: int) -> int:
    """Return the width that the arrays compute; as it is where there are none.

    >>> padded(128, 256), padded(300, 128), padded(80, 0)
    (256, 384, 80)
    """
    return ceil(width / unit) * unit if unit else width


def systolic_compute_s(work: Gemm, sustained_flop_per_s: float, unit: int) -> float:
    """Return the seconds of a product whose operands are at hand; the compiler picks what is held in place.

    Args:
        work: The product.
        sustained_flop_per_s: Rate of full arrays.
        unit: Side of an array.

    1,024 x 128 results over k = 128 on 256-wide arrays: 128 columns stream past 256 x 1,024,
    half of it padding.

    >>> from simulator.workload.work import Gemm
    >>> small = Gemm(name="", m=1024, n=128, k=128, dtype="bf16")
    >>> systolic_compute_s(small, 1e12, 256) * 1e12 == 2.0 * 128 * 256 * 1024
    True
    """
    rows = padded(work.m, ROWS) * padded(work.n, unit)
    columns = padded(work.n, ROWS) * padded(work.m, unit)
    return 2.0 * work.batch * min(rows, columns) * padded(work.k, unit) / sustained_flop_per_s
