"""The feed-forward half of a layer: dense, or with experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.experts import expert_steps
from simulator.workload.layer_steps import Step, within
from simulator.workload.linear import column_parallel, row_parallel
from simulator.workload.pointwise import activation, bias_gradient, norm, remakes_product

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.shapes import Shapes


def feed_forward_steps(scenario: Scenario, shapes: Shapes, *, has_experts: bool) -> list[Step]:
    """Return the steps from the residual stream to the feed-forward output."""
    model = scenario.model
    steps: list[Step] = []
    if not model.parallel_blocks:
        first = norm(scenario, shapes, "mlp_norm", model.hidden_size)
        steps += within("mlp_norm", within("layernorm", [first]))
    if has_experts and model.experts is not None:
        return steps + within("moe", expert_steps(scenario, shapes, model.experts))
    return steps + within("mlp", _dense_steps(scenario, shapes, shapes.intermediate))


def _dense_steps(scenario: Scenario, shapes: Shapes, width: int) -> list[Step]:
    hidden = scenario.model.hidden_size
    parts = (width, width) if scenario.model.gated else (width,)
    bias = scenario.model.linear_bias
    return [
        *column_parallel(scenario, shapes, "mlp_up", sum(parts), hidden, parts=parts),
        *bias_gradient(scenario, shapes, "mlp_up", shapes.tokens, sum(parts), has_bias=bias),
        activation(scenario, shapes, shapes.tokens, width),
        *row_parallel(scenario, shapes, "mlp_down", hidden, width, keeps_input=not remakes_product(scenario)),
        *bias_gradient(scenario, shapes, "mlp_down", shapes.divided_tokens, hidden, has_bias=bias),
    ]
