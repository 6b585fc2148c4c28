"""Shared experts: a dense feed-forward block that every token visits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.elementwise import activation, remakes_product
from simulator.workload.layers.linear import column_parallel, row_parallel
from simulator.workload.layers.operation import Pointwise, Step, within
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.scenario import Experts, Scenario
    from simulator.workload.layers.local_sizes import Shapes


def shared_halves(scenario: Scenario, shapes: Shapes, experts: Experts) -> tuple[list[Step], list[Step]]:
    """Return the shared experts up to their activation, and from their second product on."""
    width = experts.num_shared_experts * experts.moe_intermediate_size // shapes.tp.size
    if not width:
        return [], []
    hidden = scenario.model.hidden_size
    up = 2 * width if scenario.model.gated else width
    first = [
        *column_parallel(scenario, shapes, "shared_up", up, hidden),
        activation(scenario, shapes, shapes.tokens, width),
    ]
    keeps = not remakes_product(scenario)
    second = row_parallel(scenario, shapes, "shared_down", hidden, width, keeps_input=keeps)
    return within("shared_experts", first), within("shared_experts", second)


def shared_sum(scenario: Scenario, shapes: Shapes, experts: Experts) -> list[Step]:
    """Return the addition of the shared experts' results to those of the routed ones."""
    if not experts.num_shared_experts:
        return []
    size = 3.0 * shapes.element_bytes * shapes.divided_tokens * scenario.model.hidden_size
    return [Pointwise(forward=(Elementwise(name="shared_sum", bytes_moved=size),), backward=())]
