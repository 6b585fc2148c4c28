"""What one message or collective costs a rank: a latency and a flow."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageCost:
    """The time of a collective or a transfer: ``fixed_s + wire_bytes / bytes_per_s`` when it runs alone.

    Attributes:
        fixed_s: Latency: launch, hops and the filling of pipelines.
        wire_bytes: Bytes that one rank sends over its bottleneck link.
        bytes_per_s: Rate at which they move when nothing else uses the link.
        uses_network: Whether that link is the rank's scale-out NIC, which other messages may share.
        algorithm: What runs, for example ``ring simple``.
    """

    fixed_s: float
    wire_bytes: float
    bytes_per_s: float
    uses_network: bool
    algorithm: str

    @property
    def alone_s(self) -> float:
        """Seconds when nothing else uses the link.

        >>> round(MessageCost(fixed_s=1e-5, wire_bytes=4e8, bytes_per_s=4e10, uses_network=True,
        ...                   algorithm="ring simple").alone_s, 6)
        0.01001
        """
        return self.fixed_s + self.wire_bytes / self.bytes_per_s if self.wire_bytes else self.fixed_s


FREE = MessageCost(fixed_s=0.0, wire_bytes=0.0, bytes_per_s=1.0, uses_network=False, algorithm="none")


def pipeline_fill_s(share: float, latency_s: float, transfer_s: float) -> float:
    """Return the time to fill and drain a pipeline of chunks; see ``nccl_constants.Corrections``.

    >>> round(pipeline_fill_s(0.6, 25e-6, 400e-6) * 1e6)
    120
    """
    return 2 * share * math.sqrt(latency_s * transfer_s)
