"""Seconds of matrix multiplications, single and grouped.

A kernel cuts the result into tiles, one per multiprocessor and wave. With ``a x c`` tiles,

    waves = ceil(batch ceil(m/a) ceil(n/c) / multiprocessors)
    t_compute = waves * 2 a c k / (peak * sustained_fraction * tile_efficiency / multiprocessors)

and the kernel library picks the best tile. Reading the operands overlaps with that; the last tiles' results
are written after it, so a share of the store is exposed:

    t = ramp + (t_compute^p + t_memory^p)^(1/p) + t_exposed_store

Libraries that run the groups of a grouped GEMM one by one pay a further ramp for each. Pieces of one product
that several streams run fill each other's last waves: each takes its share of one kernel that runs them all.

Tiles and waves: "The Case for Co-Designing Model Architectures with Hardware" (arXiv:2401.14489), section 3.
Every term grows with m, n, k and batch, hence more work is never faster.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

from simulator.costs.formats import OPERAND_BYTES, peak_flop_per_s, result_bytes
from simulator.costs.systolic import systolic_compute_s

if TYPE_CHECKING:
    from simulator.scenario.gpu import GemmEfficiency, Gpu
    from simulator.workload.work import Gemm

_TILES = ((256, 128, 0), (128, 256, 0), (128, 128, 1), (128, 64, 2), (64, 128, 2), (64, 64, 3))
PROMOTION = 1.25
"""Scales of blocks on Hopper: 128 products take a multiprocessor 1/32 cycle of its matrix units (8,192 FLOPs
a cycle) and 1/128 cycle of its 128 fp32 units, one after the other (DeepSeek-V3, arXiv:2412.19437, 3.3.2)."""
_FULL_LOAD_BYTES = 16


def gemm_s(work: Gemm, gpu: Gpu) -> float:
    """Return the device seconds of one GEMM kernel, without its launch by the host.

    Args:
        work: The product; ``batch`` groups share the waves of one kernel.
        gpu: Where it runs.

    Raises:
        ScenarioError: The GPU lacks the number format.

    3,072 x 1,408 results are one wave of 132 tiles: 95.5 us of products at 75% of 989 TFLOP/s. At 90% of
    3.35 TB/s, operands take 24.3 us and the store 2.9 us. With p = 1 and 4 us of ramp that is 126.8 us.

    >>> from dataclasses import replace
    >>> from simulator import catalogue
    >>> from simulator.scenario import GemmEfficiency
    >>> from simulator.workload.work import Gemm
    >>> reached = GemmEfficiency(sustained_fraction=0.75, memory_fraction=0.9, exposed_store_fraction=0.5,
    ...                          ramp_s=4e-6, smoothness=1.0, tile_efficiency=(1.0, 0.9, 0.8, 0.6))
    >>> gpu = replace(catalogue.gpu("h100-80gb-sxm"), gemm={"bf16": reached})
    >>> round(gemm_s(Gemm(name="", m=3072, n=1408, k=8192, dtype="bf16"), gpu) * 1e6, 1)
    126.8
    """
    if work.pieces > 1:
        return gemm_s(replace(work, batch=work.batch * work.pieces, pieces=1), gpu) / work.pieces
    efficiency = gemm_efficiency(gpu, work.dtype)
    bandwidth = gpu.memory_bytes_per_s * efficiency.memory_fraction
    store_bytes = 2.0 * work.accumulated_bytes if work.accumulates else result_bytes(work.dtype)
    store_s = work.batch * work.m * work.n * store_bytes / bandwidth
    exposed_s = efficiency.exposed_store_fraction * store_s
    load_s = operand_bytes(work) / bandwidth
    memory_s = load_s + store_s - exposed_s
    peak = peak_flop_per_s(gpu, work.dtype)
    if gpu.matrix_unit:
        compute_s = systolic_compute_s(work, peak * efficiency.sustained_fraction, gpu.matrix_unit)
    else:
        left = max(1, gpu.multiprocessors - work.spared)
        compute_s = tiled_compute_s(work, efficiency, peak * left / gpu.multiprocessors, left)
    if work.promotes and work.dtype == "fp8":
        compute_s *= PROMOTION
    p = efficiency.smoothness
    longest_s = max(compute_s, memory_s)
    joined = (compute_s / longest_s) ** p + (memory_s / longest_s) ** p
    joined_s: float = longest_s * joined ** (1.0 / p)
    further_groups = work.batch - 1 if work.grouped else 0
    ramps_s = efficiency.ramp_s + further_groups * efficiency.group_ramp_s
    return ramps_s + joined_s + exposed_s


def gemm_efficiency(gpu: Gpu, dtype: str) -> GemmEfficiency:
    """Return the efficiency fitted for a number format, or that of the nearest format that has one."""
    nearest = (dtype, "fp8", "bf16", "fp16") if dtype == "fp4" else (dtype, "bf16", "fp16")
    return gpu.gemm[next(name for name in nearest if name in gpu.gemm)]


def operand_bytes(work: Gemm) -> float:
    """Return the bytes of both operands of all groups."""
    return work.batch * (work.m * work.k + work.n * work.k) * OPERAND_BYTES[work.dtype]


def tiled_compute_s(work: Gemm, efficiency: GemmEfficiency, peak: float, multiprocessors: int) -> float:
    """Return the seconds of the main loops, in whole waves of the tile that suits the shape best.

    A 4096 x 4096 x 4096 product has 512 tiles of 256 x 128: 3.9 waves of 132, so 4 must be run.

    >>> from simulator.scenario import GemmEfficiency
    >>> from simulator.workload.work import Gemm
    >>> best = GemmEfficiency(sustained_fraction=0.75, memory_fraction=0.9, exposed_store_fraction=0.5,
    ...                       ramp_s=4e-6, smoothness=4.0, tile_efficiency=(1.0, 0.9, 0.8, 0.6))
    >>> work = Gemm(name="", m=4096, n=4096, k=4096, dtype="bf16")
    >>> whole_waves = 4 * 132 * (2 * 256 * 128 * 4096) / (989e12 * 0.75)
    >>> tiled_compute_s(work, best, 989e12, 132) == whole_waves
    True
    """
    per_multiprocessor = peak * efficiency.sustained_fraction * _alignment(work) / multiprocessors
    return min(
        ceil(work.batch * ceil(work.m / a) * ceil(work.n / c) / multiprocessors)
        * (2.0 * a * c * work.k)
        / (per_multiprocessor * efficiency.tile_efficiency[size])
        for a, c, size in _TILES
    )


def _alignment(work: Gemm) -> float:
    """Return the speed left when rows in memory do not start on 16 bytes and loads get narrower.

    A100, fp16, vocabulary of 51,136 to 51,143: 255 TFLOP/s aligned, 138 on 4 or 8 bytes, 75 on 2 bytes
    (EleutherAI cookbook, sizing/results/gemm_data, commit 27dff48; arXiv:2401.14489, section 6).
    The contiguous dimensions are k and n, those of a weight gradient m and n.
    """
    contiguous = (work.m, work.n) if work.accumulates else (work.n, work.k)
    row_bytes = [size * OPERAND_BYTES[work.dtype] for size in contiguous]
    if all(row % _FULL_LOAD_BYTES == 0 for row in row_bytes):
        return 1.0
    return 138.0 / 255.0 if all(row % 4 == 0 for row in row_bytes) else 75.0 / 255.0
