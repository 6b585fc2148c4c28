"""Attention and feed-forward that read the same input, and what tensor parallelism saves by it.

PaLM (arXiv:2204.02311, section 2) and GPT-J: ``x + attention(norm(x)) + feed_forward(norm(x))``. The input is
gathered once for both, their partial results are added before one reduction, and so are their input
gradients (GPT-NeoX, ``gpt_j_residual``: "reduce only once").
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.workload.layers.operation import Linear, Pointwise, Step
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.workload.layers.local_sizes import LocalSizes


BLOCK_PRODUCTS = 2
"""A dense block multiplies into itself and out again; latent attention and experts share nothing."""


def side_by_side(
    sizes: LocalSizes, hidden: int, attention: Sequence[Step], feed_forward: Sequence[Step]
) -> list[Step]:
    """Join the steps of both blocks, with the collectives that they share run once.

    Backward runs from the last step to the first: the output gradient is gathered for the feed-forward's last
    product, the input again for its first one, and the input gradients are reduced after the attention's.
    """
    opening, closing = _products(attention), _products(feed_forward)
    if len(opening) != BLOCK_PRODUCTS or len(closing) != BLOCK_PRODUCTS:
        return [*attention, *feed_forward]
    size = 3.0 * sizes.element_bytes * sizes.tokens * hidden
    gradient = Pointwise(forward=(), backward=(Elementwise(name="block_sum_grad", bytes_moved=size),))
    result = Pointwise(forward=(Elementwise(name="block_sum", bytes_moved=size),), backward=())
    steps: list[Step] = []
    for number, step in enumerate(attention):
        if number == opening[0] and isinstance(step, Linear):
            steps += [replace(step, regather_input=None), gradient]
        elif number == opening[1] and isinstance(step, Linear):
            steps.append(replace(step, reduce_output=None, gather_gradient=None))
        else:
            steps.append(step)
    for number, step in enumerate(feed_forward):
        if number == closing[0] and isinstance(step, Linear):
            steps.append(replace(step, gather_input=None, reduce_gradient=None, saved_bytes=0.0))
        elif number == closing[1]:
            steps += [result, step]
        else:
            steps.append(step)
    return steps


def _products(steps: Sequence[Step]) -> list[int]:
    """Return where the matrix multiplications of a block stand."""
    return [number for number, step in enumerate(steps) if isinstance(step, Linear)]
