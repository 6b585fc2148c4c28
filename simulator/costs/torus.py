"""Collectives on a torus of bidirectional links (TPU), along one, two or three axes at once.

After Austin et al., "How to Scale Your Model" (2025), chapters 2 and 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.costs.message import MessageCost

if TYPE_CHECKING:
    from simulator.workload.work import Group

START_S = 4e-6
"""Start of a message or collective: neighbours exchange 1 to 16 KiB in 4.5 to 5.9 us on v5p and v6e, of which
one hop takes 1 us (github:marin-community/marin issue 6736, comment of 2026-06-28)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """How far a group reaches along one axis of the torus.

    Attributes:
        length: Ranks of the group along the axis.
        spacing: Chips from one to the next.
        wraps: Whether the axis closes to a ring; a part of an axis is a line.
    """

    length: int
    spacing: int
    wraps: bool


def slice_shape(torus: tuple[int, ...], chips: int) -> tuple[int, ...]:
    """Return the shape of the part of a pod that a job of ``chips`` runs on: as cubic as the pod allows.

    >>> slice_shape((16, 20, 28), 512), slice_shape((16, 16), 64), slice_shape((16, 16, 16), 4096)
    ((8, 8, 8), (8, 8), (16, 16, 16))
    """
    if chips >= math.prod(torus):
        return torus
    if len(torus) == 1:
        return (chips,)
    best: tuple[int, ...] = (chips,) + (1,) * (len(torus) - 1)
    for first in range(1, torus[0] + 1):
        if chips % first:
            continue
        shape = (first, *slice_shape(torus[1:], chips // first))
        fits = all(length <= limit for length, limit in zip(shape, torus, strict=True))
        if fits and (max(shape), sum(shape)) < (max(best), sum(best)):
            best = shape
    return best


def spans(group: Group, torus: tuple[int, ...], shape: tuple[int, ...]) -> tuple[Span, ...]:
    """Return what a group covers of each axis; chips are numbered along the first axis first.

    An axis closes to a ring if the slice has all of it, or four chips and more of a three-dimensional pod,
    whose cubes of 4 x 4 x 4 are joined by optical switches.
    """
    found = []
    step, remaining = group.stride, group.size
    for limit, length in zip(torus, shape, strict=True):
        spacing = min(step, length)
        here = min(remaining, max(1, length // spacing))
        if here > 1:
            closes = length == limit or (len(torus) == 3 and length % 4 == 0)
            found.append(Span(length=here, spacing=spacing, wraps=closes and here * spacing >= length))
        step = max(1, step // length)
        remaining = -(-remaining // here)
    return tuple(found) or (Span(length=group.size, spacing=1, wraps=False),)


def torus_collective(
    kind: str, size: float, axes: tuple[Span, ...], link_bytes_per_s: float, hop_s: float
) -> MessageCost:
    """Return the cost of a collective over the given spans.

    All-gather and reduce-scatter move the result once over both directions of every axis,
    S (n-1)/n / (2 W k) on k closed axes of links W; a line has one direction less to use. All-reduce is both.
    All-to-all is bound by the links that cut the longest axis: S L / (8 W) on a ring of L, S L / (4 W) on a
    line.

    Args:
        kind: Which collective.
        size: Bytes in the convention of nccl-tests.
        axes: What the group covers.
        link_bytes_per_s: One-way bandwidth of one link.
        hop_s: Latency of one hop.

    33.6 MB gathered over 4 v5e chips in a line: 3 hops of 8.4 MB at 45 GB/s take 560 us, and 7 us of latency.

    >>> line = (Span(length=4, spacing=1, wraps=False),)
    >>> round(torus_collective("all_gather", 33.6e6, line, 45e9, 1e-6).alone_s * 1e6)
    567
    """
    ranks = math.prod(axis.length for axis in axes)
    lanes = sum(2.0 if axis.wraps else 1.0 for axis in axes)
    laps = 2 if kind == "all_reduce" else 1
    hops = sum((axis.length - 1) * axis.spacing / (2 if axis.wraps else 1) for axis in axes)
    if kind == "all_to_all":
        transfer_s = max(
            size * axis.length * axis.spacing / (8 if axis.wraps else 4) / link_bytes_per_s for axis in axes
        )
    else:
        stretch = max(axis.spacing for axis in axes)
        transfer_s = laps * size * (ranks - 1) / ranks * stretch / (lanes * link_bytes_per_s)
    wire = laps * size * (ranks - 1) / ranks
    return MessageCost(
        fixed_s=START_S + laps * hops * hop_s,
        wire_bytes=wire,
        bytes_per_s=wire / transfer_s if transfer_s else 1.0,
        uses_network=False,
        algorithm="torus",
    )
