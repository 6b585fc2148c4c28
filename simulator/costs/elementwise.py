"""Seconds of memory-bound kernels: norms, activations, residuals, rotary embedding, soft-max, optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.scenario.gpu import Gpu
    from simulator.workload.work import Elementwise


def elementwise_s(work: Elementwise, gpu: Gpu) -> float:
    """Return the device seconds of memory-bound kernels, without their launch by the host.

    Every kernel starts and drains once (``elementwise_ramp_s``), then moves its bytes at a fixed share of the
    HBM bandwidth: small kernels therefore reach less of it, as BabelStream shows on every GPU.

    Args:
        work: Bytes and number of kernels.
        gpu: Where they run.
    """
    bandwidth = gpu.memory_bytes_per_s * gpu.elementwise_fraction
    return work.kernels * gpu.elementwise_ramp_s + work.bytes_moved / bandwidth
