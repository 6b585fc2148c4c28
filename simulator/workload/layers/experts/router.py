"""The router: scores of all experts, the best ones of each token, and the loss that balances them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.linear import replicated
from simulator.workload.layers.operation import Pointwise, Step
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.scenario import Experts
    from simulator.workload.layers.architecture import KernelOptions
    from simulator.workload.layers.local_sizes import LocalSizes

SCORE_BYTES = 12.0
"""Traffic for each token and expert (fp32): a logit read, a score and a map written, and read again."""
FUSED_KERNELS = 3
"""Scores with top-k, scores for the balancing loss, the loss (Transformer Engine's fused router)."""
EAGER_KERNELS = 12
"""Softmax or sigmoid, top-k (2), scatters of map and probabilities (4), counts, balancing loss (4).

github:NVIDIA/Megatron-LM megatron/core/transformer/moe/moe_utils.py, counted from memory: assumed.
"""
GROUP_KERNELS = 5
"""Group-limited routing: scores of groups, best groups, their mask, masked scores (the same file)."""


def router_steps(sizes: LocalSizes, kernels: KernelOptions, experts: Experts, hidden: int) -> list[Step]:
    """Return the product with the router's weights and what follows from its logits."""
    traffic = SCORE_BYTES * sizes.divided_tokens * experts.num_experts
    count = FUSED_KERNELS
    if "router" not in kernels.fused:
        count = EAGER_KERNELS + (GROUP_KERNELS if experts.n_group > 1 else 0)
    choice = Elementwise(name="router_topk", bytes_moved=traffic, kernels=count)
    return [
        *replicated(sizes, "router", experts.num_experts, hidden),
        Pointwise(forward=(choice,), backward=(choice,)),
    ]
