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
    from simulator.workload.layers.architecture import Architecture, KernelOptions
    from simulator.workload.layers.experts.token_load import ExpertOptions
    from simulator.workload.layers.local_sizes import LocalSizes


def feed_forward_steps(
    sizes: LocalSizes, model: Architecture, kernels: KernelOptions, options: ExpertOptions | None
) -> list[Step]:
    """Return the steps from the residual stream to the feed-forward output; without options, a dense one."""
    steps: list[Step] = []
    if not model.parallel_blocks:
        first = norm(sizes, kernels, "mlp_norm", model.hidden_size)
        steps += within("mlp_norm", within("layernorm", [first]))
    if options is not None and model.experts is not None:
        return steps + within("moe", expert_steps(sizes, model, kernels, model.experts, options))
    return steps + within("mlp", _dense_steps(sizes, model, kernels))


def _dense_steps(sizes: LocalSizes, model: Architecture, kernels: KernelOptions) -> list[Step]:
    hidden, width, bias = model.hidden_size, sizes.intermediate, model.linear_bias
    outputs = width * (2 if model.gated else 1)
    keeps = not remakes_product(kernels, gated=model.gated)
    return [
        *_up(sizes, model, kernels),
        *bias_gradient(sizes, kernels, "mlp_up", sizes.tokens, outputs, has_bias=bias),
        activation(sizes, kernels, sizes.tokens, width, gated=model.gated),
        *row_parallel(sizes, "mlp_down", hidden, width, keeps_input=keeps),
        *bias_gradient(sizes, kernels, "mlp_down", sizes.divided_tokens, hidden, has_bias=bias),
    ]


def _up(sizes: LocalSizes, model: Architecture, kernels: KernelOptions) -> list[Step]:
    """Return the up projection and the gate: one product, or two.

    Two layers of their own sum two input gradients over the tensor-parallel ranks, unless the sequence is
    divided: its gathering comes before both then, and the reduction of the sum after both.
    """
    hidden, width = model.hidden_size, sizes.intermediate
    parts = (width, width) if model.gated else (width,)
    apart = model.gated and kernels.gate_apart
    if not apart or sizes.tp.size == 1 or sizes.sequence_parallel:
        return column_parallel(sizes, kernels, "mlp_up", sum(parts), hidden, parts=parts, apart=apart or None)
    size = 3.0 * sizes.tokens * hidden * sizes.element_bytes
    added = Pointwise(forward=(), backward=(Elementwise(name="mlp_dgrad_sum", bytes_moved=size),))
    up = column_parallel(sizes, kernels, "mlp_up", width, hidden)
    gate = column_parallel(sizes, kernels, "mlp_gate", width, hidden)
    return [added, *up, *(replace(step, saved_bytes=0.0) for step in gate)]
