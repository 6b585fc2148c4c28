"""CUDA graphs: kernels of a layer that the host launches as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.workload.launches import launches
from simulator.workload.layer_program import backward_program, forward_program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.workload.layer_program import Habits
    from simulator.workload.layer_steps import Step

WITH_ROUTER = frozenset({"moe_router", "mlp_norm", "shared_experts"})
"""What Megatron-Core's scope ``moe_router`` captures: norm, router and shared experts (cuda_graph_scope)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedLaunches:
    """Launches that CUDA graphs save the host.

    Attributes:
        forward: In a forward pass.
        backward: In a backward pass; what it recomputes is launched one by one.
    """

    forward: int = 0
    backward: int = 0


def captured_launches(scenario: Scenario, steps: Sequence[Step], habits: Habits) -> SavedLaunches:
    """Return how many launches of a layer's passes graphs save: their kernels less one for each graph."""
    scopes = frozenset[str](scenario.training.cuda_graphs)
    if not scopes:
        return SavedLaunches()
    wanted = scopes | (WITH_ROUTER if "moe_router" in scopes else frozenset())
    whole = "full_iteration" in scopes
    chosen = [whole or bool(wanted.intersection(step.modules)) for step in steps]
    part = [step for step, is_chosen in zip(steps, chosen, strict=True) if is_chosen]
    starts = sum(now and not before for before, now in zip([False, *chosen], chosen, strict=False))
    graphs = 0 if whole else starts
    return SavedLaunches(
        forward=max(0, launches(forward_program(part, habits)) - graphs),
        backward=max(0, launches(backward_program(part, habits)) - graphs),
    )
