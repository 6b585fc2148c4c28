"""1F1B: PipeDream-Flush (Narayanan et al., arXiv:2104.04473, section 2.2.1, figure 4 top)."""

from __future__ import annotations

from simulator.workload.program import OpKind
from simulator.workload.schedules.action import Action


def one_f_one_b(pp: int, vpp: int, num_microbatches: int) -> tuple[tuple[Action, ...], ...]:
    """Return, per rank, warm-up forwards, alternating forward and backward passes, and remaining backwards.

    >>> [f"{a.kind.name[0]}{a.microbatch}" for a in one_f_one_b(2, 1, 3)[0]]
    ['F0', 'F1', 'B0', 'F2', 'B1', 'B2']
    """
    if vpp != 1:
        raise ValueError(f"1F1B runs one chunk per rank, not {vpp}")
    return tuple(_rank(rank, pp, num_microbatches) for rank in range(pp))


def _rank(rank: int, pp: int, num_microbatches: int) -> tuple[Action, ...]:
    warm_up = min(pp - 1 - rank, num_microbatches)
    forward = [Action(OpKind.FORWARD, rank, microbatch) for microbatch in range(num_microbatches)]
    backward = [Action(OpKind.BACKWARD, rank, microbatch) for microbatch in range(num_microbatches)]
    steady = num_microbatches - warm_up
    pairs = [action for pair in zip(forward[warm_up:], backward[:steady], strict=True) for action in pair]
    return (*forward[:warm_up], *pairs, *backward[steady:])
