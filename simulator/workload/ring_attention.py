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
    from simulator.workload.layer_steps import Kernel

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
    work: Attention, ranks: int, *, balanced: bool, element_bytes: float
) -> list[tuple[Kernel, ...]]:
    """Divide an attention kernel over a rank's ``work.seq_q`` queries and all keys among its turns.

    The pairs of all turns sum to ``work.pairs``; each turn's result is merged with those before it.
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
        pieces.append(
            (kernel, Elementwise(name="ring_merge", bytes_moved=_merged_bytes(kernel, element_bytes)))
        )
    return pieces


def _merged_bytes(turn: Attention, element_bytes: float) -> float:
    """Return the traffic of merging one turn's results with those of the turns before it.

    Forward a result is read and added to an fp32 sum; backward the gradients of queries, keys and values are
    read and added to sums of their own format (Transformer Engine, ``flash_attn_fwd_out_correction``).
    """
    queries, keys = turn.sequences * turn.heads * turn.seq_q, turn.sequences * turn.kv_heads * turn.seq_kv
    if turn.direction == "forward":
        return queries * turn.value_dim * (element_bytes + 2 * SUM_BYTES)
    return (queries * turn.head_dim + keys * (turn.head_dim + turn.value_dim)) * 3 * element_bytes
