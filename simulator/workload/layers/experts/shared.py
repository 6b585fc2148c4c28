"""Shared experts: a dense feed-forward block that every token visits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.elementwise import activation, remakes_product
from simulator.workload.layers.linear import column_parallel, row_parallel
from simulator.workload.layers.operation import Pointwise, Step, within
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.scenario import Experts
    from simulator.workload.layers.architecture import Architecture, KernelOptions
    from simulator.workload.layers.local_sizes import LocalSizes


def shared_halves(
    sizes: LocalSizes, model: Architecture, kernels: KernelOptions, experts: Experts
) -> tuple[list[Step], list[Step]]:
    """Return the shared experts up to their activation, and from their second product on."""
    width = experts.num_shared_experts * experts.moe_intermediate_size // sizes.tp.size
    if not width:
        return [], []
    up = 2 * width if model.gated else width
    first = [
        *column_parallel(sizes, kernels, "shared_up", up, model.hidden_size),
        activation(sizes, kernels, sizes.tokens, width, gated=model.gated),
    ]
    keeps = not remakes_product(kernels, gated=model.gated)
    second = row_parallel(sizes, "shared_down", model.hidden_size, width, keeps_input=keeps)
    return within("shared_experts", first), within("shared_experts", second)


def shared_sum(sizes: LocalSizes, experts: Experts, hidden: int) -> list[Step]:
    """Return the addition of the shared experts' results to those of the routed ones."""
    if not experts.num_shared_experts:
        return []
    size = 3.0 * sizes.element_bytes * sizes.divided_tokens * hidden
    return [Pointwise(forward=(Elementwise(name="shared_sum", bytes_moved=size),), backward=())]
