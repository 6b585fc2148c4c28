"""Seconds of any kernel, by its kind of work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.costs.attention import attention_s
from simulator.costs.elementwise import elementwise_s
from simulator.costs.gemm import gemm_s
from simulator.costs.scan import scan_s
from simulator.workload.work import Attention, Elementwise, Gemm, Scan

if TYPE_CHECKING:
    from simulator.scenario.gpu import Gpu


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
