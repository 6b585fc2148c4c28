"""What a pipeline message carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.workload.work import Transfer

if TYPE_CHECKING:
    from simulator.workload.grid import N
    from simulator.workload.layers.local_sizes import LocalSizes
    from simulator.workload.program import Bools, Floats


def message_bytes(
    tokens: N, tp: N, token_bytes: float, *, whole_messages: bool, sequence_parallel: bool | Bools
) -> float | Floats:
    """Return what one rank sends to the next pipeline stage for each micro-batch; of one layout, or of many.

    With tensor parallelism every rank sends its part and the receivers gather it over their fast links
    (Narayanan et al., arXiv:2104.04473, section 4.1), unless the stack sends the whole activation from each;
    with sequence parallelism that part is all it has.

    Args:
        tokens: Tokens of a micro-batch on one context-parallel rank.
        tp: Tensor-parallel ranks.
        token_bytes: Bytes of one token's activation between layers.
        whole_messages: Whether the stack sends whole activations.
        sequence_parallel: Whether activations are divided along the sequence among tensor-parallel ranks.
    """
    if not whole_messages:
        return tokens / tp * token_bytes
    return tokens / np.where(sequence_parallel, tp, 1) * token_bytes


def stage_message_bytes(sizes: LocalSizes, hidden: int, *, whole_messages: bool) -> float:
    """Return what one rank sends to the next pipeline stage for each micro-batch; see ``message_bytes``.

    Args:
        sizes: Sizes of one rank's share.
        hidden: Width of an activation between layers.
        whole_messages: Whether the stack sends whole activations.
    """
    sent = message_bytes(
        sizes.tokens,
        sizes.tp.size,
        hidden * sizes.element_bytes,
        whole_messages=whole_messages,
        sequence_parallel=sizes.sequence_parallel,
    )
    return float(sent)


def message(size: float, apart: int, source: int, target: int, *, receives: bool = False) -> Transfer:
    """Return the message of one micro-batch between two pipeline ranks, or the receiver's part in it.

    Args:
        size: Bytes that one rank sends.
        apart: Distance between neighbouring pipeline ranks in global rank numbering.
        source: Pipeline rank that sends.
        target: Pipeline rank that receives.
        receives: Whether this is the receiver's part.
    """
    return Transfer(
        bytes=size, stride=abs(source - target) * apart, source=source, target=target, receives=receives
    )
