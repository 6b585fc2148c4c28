"""The pieces of ring attention: what a rank computes on each part of keys and values that comes round.

With zig-zag balance every rank holds one piece of the sequence's front half and one of its back half. On its
own keys it computes the causal pairs. Keys of an earlier rank are seen in their front half by all queries,
keys of a later rank in full by the back half of the queries (Transformer Engine's ``AttnFuncWithCPAndKVP2P``,
Megatron-Core's default): the same pairs either way. Contiguous parts instead leave the last rank a full block
in each turn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.workload.work import Attention, Elementwise

if TYPE_CHECKING:
    from simulator.workload.layers.operation import Kernel

SUM_BYTES = 4
"""Results of several turns are added in fp32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The shape of one turn, as shares of the rank's own positions.

    Attributes:
        queries: Share of its queries that see anything.
        keys: Share of the visiting keys that they see.
        weight: Its query-key pairs over those of a full block.
    """

    queries: float
    keys: float
    weight: float


def turns(ranks: int, *, balanced: bool) -> tuple[Turn, ...]:
    """Return the turns of the rank that others wait for, its own keys first; the diagonal counts half."""
    own = Turn(queries=1.0, keys=1.0, weight=0.5)
    if not balanced:
        return own, *[Turn(queries=1.0, keys=1.0, weight=1.0)] * (ranks - 1)
    earlier, later = Turn(queries=1.0, keys=0.5, weight=0.5), Turn(queries=0.5, keys=1.0, weight=0.5)
    before = ranks // 2
    return own, *[earlier] * before, *[later] * (ranks - 1 - before)


def ring_turns(
    work: Attention, ranks: int, *, balanced: bool, element_bytes: float, in_fp32: bool
) -> tuple[tuple[Kernel, ...], ...]:
    """Divide an attention kernel over a rank's ``work.seq_q`` queries and all keys among its turns.

    The pairs of all turns sum to ``work.pairs``; each turn's result is merged with those before it, in fp32
    by PyTorch's eager kernels or as Transformer Engine does.
    """
    shapes = turns(ranks, balanced=balanced)
    own = work.seq_q
    full = own * own
    share = work.pairs / sum(turn.weight for turn in shapes)
    others = [min(full, share) * turn.weight for turn in shapes[1:]]
    pairs = [work.pairs - sum(others), *others]
    pieces: list[tuple[Kernel, ...]] = []
    for turn, mine in zip(shapes, pairs, strict=True):
        kernel = replace(work, seq_q=round(own * turn.queries), seq_kv=round(own * turn.keys), pairs=mine)
        merge = _eager_merge(kernel, element_bytes) if in_fp32 else _fused_merge(kernel, element_bytes)
        pieces.append((kernel, merge))
    return tuple(pieces)


def _elements(turn: Attention) -> tuple[float, float]:
    """Return the rows of queries and of keys of all heads."""
    return turn.sequences * turn.heads * turn.seq_q, turn.sequences * turn.kv_heads * turn.seq_kv


def _fused_merge(turn: Attention, element_bytes: float) -> Elementwise:
    """Merge one turn's results with those of the turns before it.

    Forward a result is read and added to an fp32 sum; backward the gradients of queries, keys and values are
    read and added to sums of their own format (Transformer Engine, ``flash_attn_fwd_out_correction``).
    """
    queries, keys = _elements(turn)
    size = queries * turn.value_dim * (element_bytes + 2 * SUM_BYTES)
    if turn.direction == "backward":
        size = (queries * turn.head_dim + keys * (turn.head_dim + turn.value_dim)) * 3 * element_bytes
    return Elementwise(name="ring_merge", bytes_moved=size)


def _eager_merge(turn: Attention, element_bytes: float) -> Elementwise:
    """Merge in eager fp32 kernels (PyTorch's ``_SDPAMerger`` and ``_templated_ring_attention_backward``).

    Forward: a cast, a difference, a product and a difference again, 8 fp32 passes beside the result's own.
    Backward: gradients are added to fp32 sums, those of keys and values also copied into one message.
    """
    queries, keys = _elements(turn)
    if turn.direction == "forward":
        size = queries * turn.value_dim * (element_bytes + 9 * SUM_BYTES)
        return Elementwise(name="ring_merge", bytes_moved=size, kernels=4)
    added = element_bytes + 2 * SUM_BYTES
    size = queries * turn.head_dim * added
    size += keys * (turn.head_dim + turn.value_dim) * (added + 2 * SUM_BYTES)
    return Elementwise(name="ring_merge", bytes_moved=size, kernels=4)
