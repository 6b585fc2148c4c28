"""Optimizer state in host memory: streamed through the GPU, or updated by the host.

ZeRO-Offload (arXiv:2101.06840) and Megatron-Core's ``optimizer_cpu_offload`` send gradients to the host,
which updates master weights and moments and sends weights back. Where the link is fast (NVLink-C2C), state
can instead pass through the GPU. With overlap, one bucket is copied while another is updated.

What is held, and what is moved, is told for one rank, or for a column of ranks of a search.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Generic

import numpy as np

from simulator.workload.parameters.sharding import X

if TYPE_CHECKING:
    from simulator.scenario import Offload
    from simulator.scenario.recompute import OptimizerOffload
    from simulator.workload.parameters.bytes import ParameterBytes

_MAX_BUCKETS = 64
"""More buckets than this change nothing but the number of ops."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StateOffload:
    """Where the optimizer's state lives; one object for equal ones.

    Attributes:
        method: ``none``; ``stream``: copied in, updated by the GPU and copied out; ``cpu``: the host updates.
        share: Share of the parameters whose state lives in host memory.
        overlaps: Whether the copies of one bucket run beside the update of another.
        bucket_bytes: Bytes of gradients that fill a bucket.
    """

    method: OptimizerOffload
    share: float
    overlaps: bool
    bucket_bytes: float

    @staticmethod
    def of(offload: Offload, bucket_bytes: float) -> StateOffload:
        """Return what a scenario offloads."""
        return state_offload(
            offload.optimizer, offload.optimizer_fraction, offload.optimizer_overlap, bucket_bytes
        )


@lru_cache(maxsize=1024)
def state_offload(
    method: OptimizerOffload, fraction: float, overlaps: bool, bucket_bytes: float
) -> StateOffload:
    """Return the one object for such an offload; ``fraction`` only counts where something is offloaded."""
    share = 0.0 if method == "none" else fraction
    return StateOffload(method=method, share=share, overlaps=overlaps, bucket_bytes=bucket_bytes)


def offload_buckets(parameters: X, gradient_bytes: float, offload: StateOffload) -> X:
    """Return in how many buckets the state of a rank's parameters passes between GPU and host."""
    size = parameters * offload.share * gradient_bytes
    buckets: X = np.clip(np.ceil(size / offload.bucket_bytes), 1, _MAX_BUCKETS)
    return buckets


def held_state_bytes(parameters: X, sizes: ParameterBytes, offload: StateOffload) -> X:
    """Return the optimizer state that the GPU holds: what stays, and two buckets on their way."""
    everything = parameters * sizes.state
    if not offload.share:
        return everything
    away = everything * offload.share
    moving: X = np.minimum(away, 2 * away / offload_buckets(parameters, sizes.gradient, offload))
    return everything - away + moving


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadTraffic(Generic[X]):
    """What the update of parameters whose state lives in host memory moves.

    Attributes:
        fetched: Bytes from the GPU to the host before the update (``cpu``), or the other way (``stream``).
        updated: Bytes that the update reads and writes: in host memory (``cpu``), or in HBM (``stream``).
        returned: Bytes that go back after the update.
    """

    fetched: X
    updated: X
    returned: X

    @staticmethod
    def of(parameters: X, sizes: ParameterBytes, offload: StateOffload) -> OffloadTraffic[X]:
        """Return the traffic of so many offloaded parameters.

        The host gets gradients, reads and writes state once, reads the gradients, and writes and sends back
        weights. A stream fetches state and sends it back.
        """
        state = parameters * sizes.state
        if offload.method == "stream":
            return OffloadTraffic(fetched=state, updated=parameters * sizes.update, returned=state)
        gradients, weights = parameters * sizes.gradient, parameters * sizes.weight
        traffic = 2 * parameters * sizes.state + gradients + weights
        return OffloadTraffic(fetched=gradients, updated=traffic, returned=weights)
