"""Optimizer state in host memory: streamed through the GPU, or updated by the host.

ZeRO-Offload (arXiv:2101.06840) and Megatron-Core's ``optimizer_cpu_offload`` send gradients to the host,
which updates master weights and moments and sends weights back. Where the link is fast (NVLink-C2C), state
can instead pass through the GPU. With overlap, one bucket is copied while another is updated.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from simulator.workload.parameters.bytes import state_bytes
from simulator.workload.parameters.counts import gradient_bytes

if TYPE_CHECKING:
    from simulator.scenario import Scenario

_MAX_BUCKETS = 64
"""More buckets than this change nothing but the number of ops."""


def offloaded_share(scenario: Scenario) -> float:
    """Return the share of the parameters whose optimizer state lives in host memory."""
    offload = scenario.training.offload
    return 0.0 if offload.optimizer == "none" else offload.optimizer_fraction


def held_state_bytes(scenario: Scenario, parameters: float) -> float:
    """Return the optimizer state that the GPU holds: what stays, and two buckets on their way."""
    everything = parameters * state_bytes(scenario)
    away = everything * offloaded_share(scenario)
    if not away:
        return everything
    return everything - away + min(away, 2 * away / offload_buckets(scenario, parameters))


def offload_buckets(scenario: Scenario, parameters: float) -> int:
    """Return how many buckets of offloaded parameters a rank that updates so many copies one by one."""
    size = parameters * offloaded_share(scenario) * gradient_bytes(scenario)
    return max(1, min(_MAX_BUCKETS, math.ceil(size / scenario.software.bucket_bytes)))
