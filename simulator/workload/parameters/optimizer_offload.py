"""Optimizer state in host memory: streamed through the GPU, or updated by the host.

ZeRO-Offload (arXiv:2101.06840) and Megatron-Core's ``optimizer_cpu_offload`` send gradients to the host,
which updates master weights and moments and sends weights back. Where the link is fast (NVLink-C2C), state
can instead pass through the GPU. With overlap, one bucket is copied while another is updated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.workload.parameters.bytes import state_bytes, update_bytes
from simulator.workload.parameters.counts import gradient_bytes, weight_bytes
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.work import Elementwise, HostCopy, HostUpdate

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    return everything - away + min(away, 2 * away / _buckets(scenario, parameters))


def append_offloaded_update(
    scenario: Scenario, builder: ProgramBuilder, rank: int, parameters: float, after: Sequence[int]
) -> list[int]:
    """Append the update of the offloaded parameters.

    Args:
        scenario: The request.
        builder: Where to append.
        rank: Program rank.
        parameters: Parameters that the rank updates, those that stay on the GPU included.
        after: Ops that must end first.

    Returns:
        Ops that end when the last weights have arrived.
    """
    writer = _Writer(scenario=scenario, builder=builder, rank=rank)
    count = _buckets(scenario, parameters)
    part = parameters * offloaded_share(scenario) / count
    add = writer.host_update if scenario.training.offload.optimizer == "cpu" else writer.streamed_update
    done: list[int] = []
    start = tuple(after)
    for _ in range(count):
        done = [add(part, start)]
        if not scenario.training.offload.optimizer_overlap:
            start = tuple(done)
    return done


def _buckets(scenario: Scenario, parameters: float) -> int:
    size = parameters * offloaded_share(scenario) * gradient_bytes(scenario)
    return max(1, min(_MAX_BUCKETS, math.ceil(size / scenario.software.bucket_bytes)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writer:
    scenario: Scenario
    builder: ProgramBuilder
    rank: int

    def host_update(self, parameters: float, after: tuple[int, ...]) -> int:
        """Send gradients out, update on the host (state read and written once), send weights in."""
        gradients = parameters * gradient_bytes(self.scenario)
        weights = parameters * weight_bytes(self.scenario)
        there = self._copy(Stream.HOST_OUT, gradients, after)
        traffic = 2 * parameters * state_bytes(self.scenario) + gradients + weights
        work = HostUpdate(bytes=traffic)
        updated = self.builder.add(OpKind.TRANSFER, self.rank, Stream.HOST, work, after=(there,))
        return self._copy(Stream.HOST_IN, weights, (updated,))

    def streamed_update(self, parameters: float, after: tuple[int, ...]) -> int:
        """Fetch state, update on the GPU, send state back."""
        state = parameters * state_bytes(self.scenario)
        there = self._copy(Stream.HOST_IN, state, after)
        size = parameters * update_bytes(self.scenario)
        work = Elementwise(name="optimizer", bytes_moved=size, exact=True)
        updated = self.builder.add(OpKind.OPTIMIZER, self.rank, Stream.COMPUTE, work, after=(there,))
        return self._copy(Stream.HOST_OUT, state, (updated,))

    def _copy(self, stream: Stream, size: float, after: tuple[int, ...]) -> int:
        return self.builder.add(OpKind.TRANSFER, self.rank, stream, HostCopy(bytes=size), after=after)
