"""The feed-forward half of a layer: dense, or experts with their router and their exchanges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layer_steps import Exchange, Linear, Pointwise, Step
from simulator.workload.linear import casts, column_parallel, replicated, row_parallel
from simulator.workload.pointwise import activation, norm, remakes_product
from simulator.workload.work import Collective, CollectiveKind, Elementwise, Gemm

if TYPE_CHECKING:
    from simulator.scenario import Experts, Scenario
    from simulator.workload.shapes import Shapes


def feed_forward_steps(scenario: Scenario, shapes: Shapes, *, has_experts: bool) -> list[Step]:
    """Return the steps from the residual stream to the feed-forward output."""
    model = scenario.model
    steps: list[Step] = []
    if not model.parallel_blocks:
        steps.append(norm(scenario, shapes, "mlp_norm", model.hidden_size))
    if has_experts and model.experts is not None:
        steps += _expert_steps(scenario, shapes, model.experts)
        shared = model.experts.num_shared_experts * model.experts.moe_intermediate_size
        if shared:
            steps += _dense_steps(scenario, shapes, shared // shapes.tp.size)
        return steps
    return steps + _dense_steps(scenario, shapes, shapes.intermediate)


def _dense_steps(scenario: Scenario, shapes: Shapes, width: int) -> list[Step]:
    hidden = scenario.model.hidden_size
    up = 2 * width if scenario.model.gated else width
    return [
        *column_parallel(scenario, shapes, "mlp_up", up, hidden),
        activation(scenario, shapes, shapes.tokens, width),
        *row_parallel(scenario, shapes, "mlp_down", hidden, width, keeps_input=not remakes_product(scenario)),
    ]


def _expert_steps(scenario: Scenario, shapes: Shapes, experts: Experts) -> list[Step]:
    """Return router, permutation, dispatch, grouped GEMMs, combine and its inverse permutation.

    Tokens travel to their experts in an all-to-all over the expert-parallel group; experts are divided among
    tensor-parallel ranks like dense layers, which gather the dispatched tokens and reduce-scatter the results
    (Megatron-Core's all-to-all dispatcher with expert tensor parallelism equal to tensor parallelism).
    """
    hidden, e = scenario.model.hidden_size, shapes.element_bytes
    choices = shapes.divided_tokens * experts.num_experts_per_tok
    sent = choices * hidden * e
    probabilities = 12.0 * shapes.divided_tokens * experts.num_experts
    router = Elementwise(name="router_topk", bytes_moved=probabilities, kernels=4)
    permute = Elementwise(name="permute", bytes_moved=2 * sent, kernels=2)
    unpermute = Elementwise(
        name="unpermute", bytes_moved=sent + sent / experts.num_experts_per_tok, kernels=2
    )
    return [
        *replicated(shapes, "router", experts.num_experts, hidden),
        Pointwise(forward=(router,), backward=(router,)),
        Pointwise(forward=(permute,), backward=(unpermute,), saved_bytes=4.0 * choices),
        *_exchange(shapes, sent, "dispatch"),
        *_tensor_exchange(scenario, shapes, choices * hidden * e, "all_gather", "reduce_scatter"),
        *_grouped_experts(scenario, shapes, experts),
        *_tensor_exchange(scenario, shapes, choices * hidden * e, "reduce_scatter", "all_gather"),
        *_exchange(shapes, sent, "combine"),
        Pointwise(forward=(unpermute,), backward=(permute,), saved_bytes=sent),
    ]


def _exchange(shapes: Shapes, size: float, name: str) -> list[Step]:
    if shapes.ep.size == 1:
        return []
    there = Collective(kind="all_to_all", group=shapes.ep, bytes=size, name=name)
    back = Collective(kind="all_to_all", group=shapes.ep, bytes=size, name=f"{name}_grad")
    return [Exchange(forward=there, backward=back, stream="ep")]


def _tensor_exchange(
    scenario: Scenario, shapes: Shapes, size: float, forward: CollectiveKind, backward: CollectiveKind
) -> list[Step]:
    """Gather (or reduce) dispatched tokens among tensor-parallel ranks; ``size`` is one rank's part.

    Without sequence parallelism every tensor-parallel rank holds all tokens: only the sums are exchanged.
    """
    if shapes.tp.size == 1:
        return []
    if scenario.parallelism.sequence_parallel:
        there, back = (
            Collective(kind=kind, group=shapes.tp, bytes=size * shapes.tp.size, name=f"expert_{kind}")
            for kind in (forward, backward)
        )
        return [Exchange(forward=there, backward=back, stream="tp")]
    total = Collective(kind="all_reduce", group=shapes.tp, bytes=size, name="expert_all_reduce")
    gathers = forward == "all_gather"
    return [Exchange(forward=None if gathers else total, backward=total if gathers else None, stream="tp")]


def _grouped_experts(scenario: Scenario, shapes: Shapes, experts: Experts) -> list[Step]:
    local = experts.num_experts // shapes.ep.size
    rows = max(1, shapes.tokens * shapes.ep.size * experts.num_experts_per_tok // experts.num_experts)
    width = experts.moe_intermediate_size // shapes.tp.size
    hidden, e = scenario.model.hidden_size, shapes.element_bytes
    up_width = 2 * width if scenario.model.gated else width
    up = Gemm(
        name="expert_up", m=rows, n=up_width, k=hidden, batch=local, dtype=shapes.gemm_dtype, grouped=True
    )
    down = Gemm(
        name="expert_down", m=rows, n=hidden, k=width, batch=local, dtype=shapes.gemm_dtype, grouped=True
    )
    return [
        *casts(shapes, up),
        Linear(forward=up, saved_bytes=rows * local * hidden * e),
        activation(scenario, shapes, rows * local, width),
        *casts(shapes, down),
        Linear(forward=down, saved_bytes=0.0 if remakes_product(scenario) else rows * local * width * e),
    ]
