"""How interleaved schedules send micro-batches through a rank's chunks: in rounds.

In a round every chunk in turn runs the round's micro-batches. Megatron-Core calls their number
``microbatch_group_size_per_virtual_pipeline_stage`` (default: pp); PyTorch makes as many equal rounds as
hold at least pp micro-batches each, which is the same where pp divides the number of micro-batches.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from simulator.schedules.columns import Passes
from simulator.schedules.op_kind import OpKind

if TYPE_CHECKING:
    from simulator.schedules.columns import Ints
    from simulator.schedules.schedule import Request

RULE = "equal rounds of at least pp micro-batches"


def round_size(request: Request) -> int:
    """Return the micro-batches of one round."""
    if request.group_size is not None:
        return request.group_size
    return request.num_microbatches // max(1, request.num_microbatches // request.pp)


def fits_rounds(request: Request) -> bool:
    """Tell whether micro-batches make whole rounds; Megatron-Core takes a smaller last one of pp or more."""
    size = round_size(request)
    rest = request.num_microbatches % size if size else 1
    if request.group_size is None:
        return rest == 0
    return size >= request.pp and (rest == 0 or rest >= request.pp)


def in_rounds(request: Request, rank: int, kind: OpKind) -> Passes:
    """Return a rank's passes of one kind, round by round; backward passes begin with the last chunk."""
    chunk, microbatch = _rounds(request.num_microbatches, request.vpp, round_size(request))
    if kind is not OpKind.FORWARD:
        chunk = request.vpp - 1 - chunk
    return Passes.of_kind(kind, rank + chunk * request.pp, microbatch)


@lru_cache(maxsize=8)
def _rounds(num_microbatches: int, chunks: int, size: int) -> tuple[Ints, Ints]:
    """Return the chunk and the micro-batch of each pass; all ranks run theirs in the same order."""
    microbatch = np.tile(np.arange(num_microbatches), chunks)
    chunk = np.repeat(np.arange(chunks), num_microbatches)
    order = np.lexsort((microbatch, chunk, microbatch // size))
    return chunk[order], microbatch[order]


def warm_up(request: Request, rank: int, per_hop: int) -> int:
    """Return the forward passes before the first backward pass, ``per_hop`` more for each rank earlier."""
    passes = (request.vpp - 1) * round_size(request) + per_hop * (request.pp - 1 - rank)
    return min(passes, request.num_microbatches * request.vpp)
