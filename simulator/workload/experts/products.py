"""The matrix products of a rank's experts: in one grouped call, or one expert after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.casts import casts
from simulator.workload.layer_steps import Linear, Pointwise, Step, within
from simulator.workload.pointwise import activation, remakes_product
from simulator.workload.work import Elementwise, Gemm

if TYPE_CHECKING:
    from simulator.scenario import Experts, Scenario
    from simulator.workload.experts.flow import TokenFlow
    from simulator.workload.shapes import Shapes


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
    first = [*casts(shapes, up), Linear(forward=up, saved_bytes=computed * flow.width * each)]
    return [
        *within("expert_fc1", first),
        *within("moe_act", [activation(scenario, shapes, computed, width)]),
        *casts(shapes, down),
        Linear(forward=down, saved_bytes=kept),
        *_bias(scenario, down),
    ]


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
