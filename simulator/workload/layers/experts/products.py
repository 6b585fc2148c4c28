"""The matrix products of a rank's experts: in one grouped call, or one expert after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.workload.layers.casts import casts
from simulator.workload.layers.elementwise import activation, remakes_product
from simulator.workload.layers.operation import Linear, Pointwise, Step, within
from simulator.workload.work import Elementwise, Gemm

if TYPE_CHECKING:
    from simulator.scenario import Experts, Scenario
    from simulator.workload.layers.experts.token_load import TokenFlow
    from simulator.workload.layers.local_sizes import Shapes


def expert_products(scenario: Scenario, shapes: Shapes, experts: Experts, flow: TokenFlow) -> list[Step]:
    """Return the feed-forward blocks of the rank's experts."""
    local = experts.num_experts // flow.ep.size
    if scenario.training.experts.grouped_gemm:
        return _block(scenario, shapes, experts, flow, batch=local)
    return [step for _ in range(local) for step in _block(scenario, shapes, experts, flow, batch=1)]


def _block(
    scenario: Scenario, shapes: Shapes, experts: Experts, flow: TokenFlow, *, batch: int
) -> list[Step]:
    local = experts.num_experts // flow.ep.size
    rows = flow.rows // local
    width = experts.moe_intermediate_size // flow.etp.size
    up_width = 2 * width if scenario.model.gated else width
    up = _product(shapes, "expert_up", rows, up_width, flow.width, batch=batch)
    down = _product(shapes, "expert_down", rows, flow.width, width, batch=batch)
    each, computed = shapes.operand_bytes, rows * batch
    kept = 0.0 if remakes_product(scenario) else computed * width * each
    kept_input = Linear(forward=up, saved_bytes=computed * flow.width * each)
    if batch > 1 and "grouped_mlp" in scenario.software.fused and shapes.quantisation is not None:
        return [
            *_one_way(casts(shapes, up), forward=True),
            kept_input,
            *within("moe_act", [_fused_activation(scenario, shapes, computed, width)]),
            *_one_way(casts(shapes, down), forward=False),
            Linear(forward=down, saved_bytes=kept),
            *_bias(scenario, down),
        ]
    first = [*casts(shapes, up), kept_input]
    return [
        *within("expert_fc1", first),
        *within("moe_act", [activation(scenario, shapes, computed, width)]),
        *casts(shapes, down),
        Linear(forward=down, saved_bytes=kept),
        *_bias(scenario, down),
    ]


def _one_way(steps: list[Step], *, forward: bool) -> list[Step]:
    """Return the casts of one direction, those of all experts in one kernel."""
    return [
        replace(
            step,
            forward=tuple(map(_together, step.forward)) if forward else (),
            backward=() if forward else tuple(map(_together, step.backward)),
        )
        for step in steps
        if isinstance(step, Pointwise)
    ]


def _together(kernel: Elementwise) -> Elementwise:
    return replace(kernel, kernels=kernel.kernels // kernel.loops, loops=1)


def _fused_activation(scenario: Scenario, shapes: Shapes, rows: int, width: int) -> Pointwise:
    """Return what an activation inside the grouped products still moves.

    Forward, the first product writes the activation's result converted, beside its own. Backward, the second
    one's input gradient reads the first one's result and writes the gradient of it converted (Transformer
    Engine's grouped MLP on cuDNN's CuTe kernels, Megatron-Bridge's ``cutedsl_fused_grouped_mlp``).
    """
    written = shapes.quantisation.written_bytes if shapes.quantisation is not None else 0.0
    inputs = rows * width * (2 if scenario.model.gated else 1)
    plain = activation(scenario, shapes, rows, width)
    return replace(
        plain,
        forward=(Elementwise(name="activation", bytes_moved=rows * width * written),),
        backward=(
            Elementwise(name="activation_grad", bytes_moved=inputs * (written + shapes.element_bytes)),
        ),
    )


def _bias(scenario: Scenario, down: Gemm) -> list[Step]:
    """Return the addition of each expert's bias, weighted by the router, to its results, in fp32.

    Megatron-Core runs a product, a sum, a concatenation and a cast (core_v0.16.0, ``_apply_bias`` of
    ``TEGroupedMLP`` in megatron/core/transformer/moe/experts.py): per value they move 28 bytes forward and 40
    backward, where biases and weights of copies get gradients. Kernels that take the sizes of all groups from
    the device, as graphs of whole steps need, add the bias to the product.
    """
    if not scenario.model.linear_bias or "full_iteration" in scenario.training.cuda_graphs:
        return []
    values = down.batch * down.m * down.n
    forward = Elementwise(name="expert_bias", bytes_moved=28.0 * values, kernels=2 * down.batch + 2)
    backward = Elementwise(name="expert_bias_grad", bytes_moved=40.0 * values, kernels=5 * down.batch + 1)
    return [Pointwise(forward=(forward,), backward=(backward,))]


def _product(shapes: Shapes, name: str, rows: int, n: int, k: int, *, batch: int) -> Gemm:
    return Gemm(
        name=name,
        m=rows,
        n=n,
        k=k,
        batch=batch,
        dtype=shapes.gemm_dtype,
        grouped=batch > 1,
        promotes=shapes.promotes,
    )
