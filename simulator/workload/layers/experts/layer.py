"""The feed-forward half of a layer with experts, put together from its parts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.workload.layers.experts.dispatchers import DISPATCHERS
from simulator.workload.layers.experts.products import expert_products
from simulator.workload.layers.experts.router import router_steps
from simulator.workload.layers.experts.shared import shared_halves, shared_sum
from simulator.workload.layers.experts.token_load import token_flow
from simulator.workload.layers.linear import replicated
from simulator.workload.layers.operation import Exchange, Step, within

if TYPE_CHECKING:
    from simulator.scenario import Experts
    from simulator.workload.layers.architecture import Architecture, KernelOptions
    from simulator.workload.layers.experts.token_load import ExpertOptions
    from simulator.workload.layers.local_sizes import LocalSizes


def expert_steps(
    sizes: LocalSizes, model: Architecture, kernels: KernelOptions, experts: Experts, options: ExpertOptions
) -> list[Step]:
    """Return router, dispatch, experts, combine and shared experts.

    Shared experts run first, or where ``overlap.shared_experts`` says so beside the exchanges: their first
    product while tokens travel, their second one while results come back (Megatron-Core's
    ``moe_shared_expert_overlap``).
    """
    flow = token_flow(sizes, kernels, experts, options, model.hidden_size)
    strategy = DISPATCHERS[options.training.dispatcher]
    dispatch, combine = strategy.dispatch(flow), strategy.combine(flow)
    first, second = shared_halves(sizes, model, kernels, experts)
    overlaps = options.overlaps_shared and flow.ep.size > 1
    if overlaps:
        dispatch, combine = _beside(dispatch, first), _beside(combine, second)
    return [
        *within("moe_router", router_steps(sizes, kernels, experts, model.hidden_size)),
        *([] if overlaps else [*first, *second]),
        *_latent(sizes, "latent_down", experts.moe_latent_size, model.hidden_size),
        *dispatch,
        *expert_products(sizes, model, kernels, options, flow),
        *combine,
        *_latent(sizes, "latent_up", model.hidden_size, experts.moe_latent_size),
        *shared_sum(sizes, experts, model.hidden_size),
    ]


def _latent(sizes: LocalSizes, name: str, n: int | None, k: int | None) -> list[Step]:
    """Return a projection to or from the latent width of routed experts, if they have one."""
    if n is None or k is None:
        return []
    return replicated(sizes, name, n, k, dtype=sizes.gemm_dtype)


def _beside(steps: list[Step], aside: list[Step]) -> list[Step]:
    """Let steps run while the exchange among experts is in flight."""
    return [
        replace(
            step, beside=tuple(aside), saved_bytes=step.saved_bytes + sum(part.saved_bytes for part in aside)
        )
        if isinstance(step, Exchange) and step.stream == "ep"
        else step
        for step in steps
    ]
