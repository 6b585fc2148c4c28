"""Interleaved 1F1B (Narayanan et al., arXiv:2104.04473, section 2.2.2), in Megatron-Core's order.

Each rank holds ``vpp`` chunks. Micro-batches go through the chunks in groups of ``pp``.
"""

from __future__ import annotations

from simulator.workload.program import OpKind
from simulator.workload.schedules.action import Action


def interleaved(pp: int, vpp: int, num_microbatches: int) -> tuple[tuple[Action, ...], ...]:
    """Return, per rank, the order of forward and backward passes of all its chunks.

    >>> actions = interleaved(2, 2, 2)[0]
    >>> [f"{a.kind.name[0]}{a.microbatch}.{a.stage}" for a in actions]
    ['F0.0', 'F1.0', 'F0.2', 'F1.2', 'B0.2', 'B1.2', 'B0.0', 'B1.0']

    Raises:
        ValueError: The number of micro-batches is not a multiple of ``pp``.
    """
    if num_microbatches % pp:
        raise ValueError(f"interleaved 1F1B needs a multiple of {pp} micro-batches, not {num_microbatches}")
    return tuple(_rank(rank, pp, vpp, num_microbatches) for rank in range(pp))


def _rank(rank: int, pp: int, vpp: int, num_microbatches: int) -> tuple[Action, ...]:
    total = num_microbatches * vpp
    forward = [_action(OpKind.FORWARD, k, rank, pp, vpp) for k in range(total)]
    backward = [_action(OpKind.BACKWARD, k, rank, pp, vpp) for k in range(total)]
    warm_up = min((pp - rank - 1) * 2 + (vpp - 1) * pp, total)
    steady = total - warm_up
    pairs = [action for pair in zip(forward[warm_up:], backward[:steady], strict=True) for action in pair]
    return (*forward[:warm_up], *pairs, *backward[steady:])


def _action(kind: OpKind, k: int, rank: int, pp: int, vpp: int) -> Action:
    """Return the k-th forward or backward pass of a rank (Megatron-Core ``get_model_chunk_id``)."""
    group, within = divmod(k, pp * vpp)
    chunk, offset = divmod(within, pp)
    if kind is OpKind.BACKWARD:
        chunk = vpp - 1 - chunk
    return Action(kind, chunk * pp + rank, group * pp + offset)
