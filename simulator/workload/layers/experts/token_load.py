"""How many tokens a rank sends to experts, and how many reach the busiest one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.workload.grid import ExpertMesh
from simulator.workload.work import Routing

if TYPE_CHECKING:
    from simulator.scenario import Experts, ExpertTraining, Parallelism, Training
    from simulator.workload.layers.architecture import KernelOptions
    from simulator.workload.layers.local_sizes import LocalSizes
    from simulator.workload.work import Group

FP8_SCALE_BYTES = 4 / 128
"""One fp32 scale for 128 values (DeepSeek-V3, arXiv:2412.19437, section 3.3.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertOptions:
    """How tokens reach their experts and are computed there.

    Attributes:
        training: Dispatcher, load and kind of matrix products.
        ep: Expert-parallel group.
        etp: Expert-tensor group.
        overlaps_shared: Whether shared experts run beside the exchanges.
        adds_bias_apart: Whether kernels of their own add the experts' biases; those that take the sizes of
            all groups from the device, as graphs of whole steps need, add the bias to the product.
    """

    training: ExpertTraining
    ep: Group
    etp: Group
    overlaps_shared: bool
    adds_bias_apart: bool

    @classmethod
    def of(cls, training: Training, parallelism: Parallelism) -> ExpertOptions:
        """Return how tokens reach their experts in a layout."""
        mesh = ExpertMesh.of(parallelism)
        return cls(
            training=training.experts,
            ep=mesh.group("ep"),
            etp=mesh.group("etp"),
            overlaps_shared=training.overlap.shared_experts,
            adds_bias_apart="full_iteration" not in training.cuda_graphs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFlow:
    """Tokens of one micro-batch between one rank and the experts of its group.

    Every rank sends what the busiest one receives: all ranks wait for it.

    Attributes:
        tokens: Tokens that the rank routes.
        copies: Copies of them that leave for an expert, and copies that arrive.
        rows: Copies that the rank's experts compute: those of all expert-tensor ranks.
        width: Values of one token.
        element_bytes: Bytes of one value as activations are kept.
        sent_bytes: Bytes of one value on its way to an expert.
        routing: Which experts a token visits.
        ep: Expert-parallel group.
        etp: Expert-tensor group.
        gathers: Whether expert-tensor ranks hold different tokens, which they gather and scatter again;
            otherwise they hold the same ones and only sum results.
        fused: Operations that the software runs as one kernel.
        sorts_copies: Whether copies are made, sorted and added up by passes of their own; see ``Software``.
    """

    tokens: int
    copies: float
    rows: int
    width: int
    element_bytes: float
    sent_bytes: float
    routing: Routing
    ep: Group
    etp: Group
    gathers: bool
    fused: frozenset[str]
    sorts_copies: bool = False

    @property
    def copy_bytes(self) -> float:
        """Bytes of all copies as activations."""
        return self.copies * self.width * self.element_bytes

    @property
    def row_bytes(self) -> float:
        """Bytes of all rows that the rank's experts compute, as activations."""
        return self.rows * self.width * self.element_bytes


def token_flow(
    sizes: LocalSizes, kernels: KernelOptions, experts: Experts, options: ExpertOptions, hidden: int
) -> TokenFlow:
    """Work out how tokens flow; the load of the busiest rank follows from imbalance and capacity."""
    training, ep, etp = options.training, options.ep, options.etp
    differ = sizes.sequence_parallel or sizes.tp.size == 1
    together = sizes.divided_tokens * etp.size if differ else sizes.tokens
    per_expert = together * ep.size * experts.num_experts_per_tok // experts.num_experts
    rows = max(1, round(per_expert * training.load)) * (experts.num_experts // ep.size)
    sent = sizes.element_bytes if training.dispatch_dtype is None else 1 + FP8_SCALE_BYTES
    return TokenFlow(
        tokens=sizes.divided_tokens,
        copies=sizes.divided_tokens * experts.num_experts_per_tok * training.load,
        rows=rows,
        width=experts.moe_latent_size or hidden,
        element_bytes=sizes.element_bytes,
        sent_bytes=sent,
        routing=Routing(
            experts=experts.num_experts,
            copies=experts.num_experts_per_tok,
            groups=experts.n_group,
            chosen_groups=experts.topk_group,
        ),
        ep=ep,
        etp=etp,
        gathers=differ,
        fused=kernels.fused,
        sorts_copies=kernels.sorts_copies,
    )
