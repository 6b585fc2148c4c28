"""Tokens on their way to experts and back, over the ranks of expert parallelism."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.operation import Exchange, Step
from simulator.workload.work import Collective

if TYPE_CHECKING:
    from simulator.workload.layers.experts.token_load import TokenFlow
    from simulator.workload.work import CollectiveKernel


def exchange(
    flow: TokenFlow, name: str, kernel: CollectiveKernel, *, forward: float, backward: float
) -> list[Step]:
    """Return the exchange of all copies of tokens; nothing where one rank holds all experts.

    Args:
        flow: What travels.
        name: Of the forward exchange.
        kernel: Library whose kernel carries it.
        forward: Bytes of an element on its way in the forward pass.
        backward: Bytes of an element of its gradient on the way back.
    """
    if flow.ep.size == 1:
        return []
    there, back = (
        Collective(
            kind="all_to_all",
            group=flow.ep,
            bytes=flow.copies * flow.width * element_bytes,
            name=label,
            kernel=kernel,
            routing=flow.routing,
        )
        for element_bytes, label in ((forward, name), (backward, f"{name}_grad"))
    )
    return [Exchange(forward=there, backward=back, stream="ep")]
