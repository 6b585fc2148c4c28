"""Seconds of memory-bound kernels: norms, activations, residuals, rotary embedding, soft-max, optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.scenario.gpu import Gpu
    from simulator.workload.work import Elementwise


def elementwise_s(work: Elementwise, gpu: Gpu) -> float:
    """Return the device seconds of memory-bound kernels, without their launch by the host.

    Every kernel starts and drains once (``elementwise_ramp_s``), then moves its bytes at a fixed share of the
    HBM bandwidth. Small kernels therefore reach less of it: on GB200 a norm of 50 MB gets 3.8 TB/s, one of
    270 MB 6.4 TB/s (cudnn-frontend, benchmark/norms).

    Args:
        work: Bytes and number of kernels.
        gpu: Where they run.

    1.6 MB in one kernel at 80% of 2 TB/s: 3 us to start, 1 us to move.

    >>> from dataclasses import replace
    >>> from simulator import catalogue
    >>> from simulator.workload.work import Elementwise
    >>> gpu = replace(catalogue.gpu("a100-80gb-sxm"), memory_bytes_per_s=2e12, elementwise_fraction=0.8,
    ...               elementwise_ramp_s=3e-6)
    >>> round(elementwise_s(Elementwise(name="norm", bytes_moved=1.6e6), gpu) * 1e6, 6)
    4.0
    """
    bandwidth = gpu.memory_bytes_per_s * gpu.elementwise_fraction
    return work.kernels * gpu.elementwise_ramp_s + work.bytes_moved / bandwidth
