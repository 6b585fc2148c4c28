"""Seconds that the host takes to launch kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.scenario import Software
    from simulator.workload.work import Launches

LOOPED_LAUNCH_S = 5e-6
"""One launch from a loop in compiled code (assumed: a CUDA launch alone takes the host about so long).

Transformer Engine converts the rows of each expert and starts its product so
(github:NVIDIA/TransformerEngine, ``split_quantize`` and ``nvte_multi_tensor_gemm``).
"""


def launch_s(launches: Launches, software: Software) -> float:
    """Return the host's seconds for launches, those of a loop without the framework's share.

    >>> from simulator import catalogue
    >>> from simulator.workload.work import Launches
    >>> software = catalogue.software("megatron-core")
    >>> launch_s(Launches(first=0, further=64), software)
    0.00032
    """
    looped_s = min(LOOPED_LAUNCH_S, software.kernel_launch_s)
    return launches.first * software.kernel_launch_s + launches.further * looped_s
