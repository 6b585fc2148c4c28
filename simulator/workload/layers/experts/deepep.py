"""DeepEP's kernels for training (github:deepseek-ai/DeepEP): a token crosses the network once per node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.experts.deduplicated_dispatch import combine_once, dispatch_once
from simulator.workload.layers.operation import Pointwise, Step
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.workload.layers.experts.token_load import TokenFlow

LAYOUT_KERNELS = 2
"""``get_dispatch_layout`` counts the tokens of each rank; ``notify_dispatch`` tells them to the others."""


def dispatch(flow: TokenFlow) -> list[Step]:
    """Return the layout of the exchange, the exchange and the permutation."""
    if flow.ep.size == 1:
        return dispatch_once(flow, "deepep")
    size = 4.0 * flow.tokens * (flow.routing.copies + flow.ep.size)
    layout = Elementwise(name="dispatch_layout", bytes_moved=size, kernels=LAYOUT_KERNELS)
    # The backward pass takes the layout of the forward pass (``handle``).
    return [Pointwise(forward=(layout,), backward=()), *dispatch_once(flow, "deepep")]


def combine(flow: TokenFlow) -> list[Step]:
    """Return the inverse permutation and the exchange."""
    return combine_once(flow, "deepep")
