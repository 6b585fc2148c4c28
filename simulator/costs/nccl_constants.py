"""The constants by which NCCL itself predicts the time of its algorithms.

All read in github.com/NVIDIA/nccl, ``src/graph/tuning.cc``, commit 5067397c (v2.30.7), tables ``baseLat``,
``hwLat`` and ``llMaxBws``. RCCL, oneCCL and NCCL's other descendants start from the same tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from simulator.catalogue.collectives import collective_corrections

MICROSECOND = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How the ranks of a ring or tree hand data to each other.

    Attributes:
        name: NCCL's name for it.
        base_s: Launch and start of the kernel.
        hop_extra_s: Synchronisation of one hop inside a scale-up domain, beyond the LL flag's.
        ring_network_s: One hop of a ring across the network.
        tree_network_s: One hop of a tree across the network.
        payload: Share of the link's bytes that are data: LL sends a flag with every 4 bytes of data.
    """

    name: str
    base_s: float
    hop_extra_s: float
    ring_network_s: float
    tree_network_s: float
    payload: float


LL = Protocol(
    name="LL",
    base_s=6.6 * MICROSECOND,
    hop_extra_s=0.0,
    ring_network_s=2.7 * MICROSECOND,
    tree_network_s=5.0 * MICROSECOND,
    payload=0.5,
)
LL128 = Protocol(
    name="LL128",
    base_s=14.0 * MICROSECOND,
    hop_extra_s=1.3 * MICROSECOND,
    ring_network_s=4.0 * MICROSECOND,
    tree_network_s=8.5 * MICROSECOND,
    payload=0.92,
)
SIMPLE = Protocol(
    name="Simple",
    base_s=8.4 * MICROSECOND,
    hop_extra_s=2.8 * MICROSECOND,
    ring_network_s=14.0 * MICROSECOND,
    tree_network_s=14.0 * MICROSECOND,
    payload=1.0,
)
PROTOCOLS = (LL, LL128, SIMPLE)

LL_SHARES = (0.31, 0.10, 0.078)
"""``llMaxBws`` over NVLink bandwidth, on 1, 2 and more domains (Hopper: 141, 45, 35 of 450 GB/s)."""

TREE_SHARE = 0.92
"""Tree over ring bandwidth on the same links."""

PLATEAU = 1.4
"""Factor on the latency of a Simple ring all-reduce across domains."""

NVLS_S = 25.0 * MICROSECOND
"""Latency of an all-reduce in the switches of one domain."""

NVLS_TREE_NETWORK_S = 20.9 * MICROSECOND
"""One hop of the tree between the switches of two domains."""

PAT_BASE_S = 8.0 * MICROSECOND
PAT_NETWORK_S = 14.0 / 3.5 * MICROSECOND
PAT_RANK_S = 2.8 * MICROSECOND
PAT_SHARE = 0.75
"""PAT (parallel aggregated trees): start, one level of the tree, work per rank, bandwidth over a ring's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """What measurements add to the tables above; ``simulator calibrate collectives`` fits them.

    Attributes:
        start_s: Added start of a collective, beyond NCCL's base latency; NVLS in one domain needs none.
        network_hop_factor: Measured over tabulated latency of LL and LL128 hops in a ring that spans domains.
        pipeline_fill: Filling of pipelines of chunks as a share of ``2 sqrt(latency x transfer)``: with
            chunks of the best size, k hops take (sqrt(latency) + sqrt(transfer))^2 (Sanders, Speck, Traeff,
            "Two-tree algorithms for full bandwidth broadcast, reduction and scan", 2009).
        tree_channel_share: What one domain's trees send across the network, over one GPU's NVLink bandwidth:
            190 to 195 GB/s of 900 on 2 to 64 nodes of B200 (together-nccl-tests).
        peer_s: All-to-all: added time for each peer inside the domain.
        network_peer_s: All-to-all: added time for each peer across the network.
    """

    start_s: float
    network_hop_factor: float
    pipeline_fill: float
    tree_channel_share: float
    peer_s: float
    network_peer_s: float


@lru_cache(maxsize=1)
def fitted_corrections() -> Corrections:
    """Return those fitted to 1,010 points of 162 published curves, 64 KiB and more; 4 are only compared."""
    return Corrections(**collective_corrections())
