"""The feed-forward half of a layer: dense, or with experts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.workload.layers.elementwise import activation, bias_gradient, norm, remakes_product
from simulator.workload.layers.experts import expert_steps
from simulator.workload.layers.linear import column_parallel, row_parallel
from simulator.workload.layers.operation import Pointwise, Step, within
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.layers.local_sizes import Shapes


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
    outputs = width * (2 if scenario.model.gated else 1)
    bias = scenario.model.linear_bias
    return [
        *_up(scenario, shapes, width),
        *bias_gradient(scenario, shapes, "mlp_up", shapes.tokens, outputs, has_bias=bias),
        activation(scenario, shapes, shapes.tokens, width),
        *row_parallel(scenario, shapes, "mlp_down", hidden, width, keeps_input=not remakes_product(scenario)),
        *bias_gradient(scenario, shapes, "mlp_down", shapes.divided_tokens, hidden, has_bias=bias),
    ]


def _up(scenario: Scenario, shapes: Shapes, width: int) -> list[Step]:
    """Return the up projection and the gate: one product, or two.

    Two layers of their own sum two input gradients over the tensor-parallel ranks, unless the sequence is
    divided: its gathering comes before both then, and the reduction of the sum after both.
    """
    hidden, is_gated = scenario.model.hidden_size, scenario.model.gated
    parts = (width, width) if is_gated else (width,)
    apart = is_gated and scenario.software.gate_apart
    if not apart or shapes.tp.size == 1 or scenario.parallelism.sequence_parallel:
        return column_parallel(
            scenario, shapes, "mlp_up", sum(parts), hidden, parts=parts, apart=apart or None
        )
    size = 3.0 * shapes.tokens * hidden * shapes.element_bytes
    added = Pointwise(forward=(), backward=(Elementwise(name="mlp_dgrad_sum", bytes_moved=size),))
    up = column_parallel(scenario, shapes, "mlp_up", width, hidden)
    gate = column_parallel(scenario, shapes, "mlp_gate", width, hidden)
    return [added, *up, *(replace(step, saved_bytes=0.0) for step in gate)]
