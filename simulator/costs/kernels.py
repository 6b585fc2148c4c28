"""Seconds of any kernel, by its kind of work.

State-space scans (github:state-spaces/mamba, mamba_ssm/ops/triton): the Triton kernels weight the operands of
every product by decays in fp32 registers before it, and write states in fp32. They therefore reach a small
share of the tensor cores, and newer tensor cores, whose instructions take operands from memory, do not make
them faster: an SM of a B200 runs them like one of an H100. Backward kernels also add up gradients of decays
and of shared projections, by atomics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.costs.attention import attention_s
from simulator.costs.elementwise import elementwise_s
from simulator.costs.formats import peak_flop_per_s
from simulator.costs.gemm import gemm_s
from simulator.workload.work import Attention, Elementwise, Gemm, Scan

if TYPE_CHECKING:
    from simulator.scenario.gpu import Gpu
    from simulator.workload.work import Pass


_FLOP_PER_S: dict[Pass, float] = {
    # Of one multiprocessor of an H100 (132 of them). Forward: 12.9 million tokens/s of 128 heads of 64, state
    # 128, chunks of 256, that is 80 TFLOP/s (github:vllm-project/vllm pull request 27299, column "Original").
    "forward": 0.61e12,
    # Backward: what is left of 15.06 s per step of Nemotron-H 56B on 64 H100 (github:NVIDIA/dgxc-benchmarking
    # nemotronh/README.md, commit 1f6d9f40) after all other kernels of this simulator.
    "backward": 0.125e12,
}
_PEAK_SHARE: dict[Pass, float] = {"forward": 0.081, "backward": 0.0167}
"""The same over the H100's peak of 989 TFLOP/s: what accelerators with slower tensor cores reach at most."""


def scan_s(work: Scan, gpu: Gpu) -> float:
    """Return the device seconds of one kernel of a scan, without its launch by the host.

    Products and memory traffic overlap; the slower of both counts.

    Args:
        work: The kernel.
        gpu: Where it runs.

    Raises:
        ScenarioError: The GPU lacks the number format.

    41 GFLOP at 0.61 TFLOP/s on each of 132 multiprocessors:

    >>> from simulator import catalogue
    >>> from simulator.workload.work import Scan
    >>> work = Scan(name="chunk_scan", multiply_adds=41e9, bytes_moved=0.0, dtype="bf16", direction="forward")
    >>> round(scan_s(work, catalogue.gpu("h100-80gb-sxm")) * 1e6)
    512
    """
    share = _PEAK_SHARE[work.direction] * peak_flop_per_s(gpu, work.dtype)
    own = _FLOP_PER_S[work.direction] * gpu.multiprocessors
    rate = share if gpu.matrix_unit else min(share, own)
    moved = Elementwise(name=work.name, bytes_moved=work.bytes_moved)
    return max(work.multiply_adds / rate, elementwise_s(moved, gpu))


def kernel_s(work: Gemm | Attention | Scan | Elementwise, gpu: Gpu) -> float:
    """Return the device seconds of one piece of computation, without its launch by the host.

    Args:
        work: What is computed.
        gpu: Where it runs.

    Raises:
        ScenarioError: The GPU lacks the number format or the attention kernel.
    """
    if isinstance(work, Gemm):
        return gemm_s(work, gpu)
    if isinstance(work, Attention):
        return attention_s(work, gpu)
    if isinstance(work, Scan):
        return scan_s(work, gpu)
    return elementwise_s(work, gpu)
