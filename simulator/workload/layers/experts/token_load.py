"""How many tokens a rank sends to experts, and how many reach the busiest one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.workload.grid import ExpertMesh
from simulator.workload.work import Routing

if TYPE_CHECKING:
    from simulator.scenario import Experts, Scenario
    from simulator.workload.layers.local_sizes import Shapes
    from simulator.workload.work import Group

FP8_SCALE_BYTES = 4 / 128
"""One fp32 scale for 128 values (DeepSeek-V3, arXiv:2412.19437, section 3.3.2)."""


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


def token_flow(scenario: Scenario, shapes: Shapes, experts: Experts) -> TokenFlow:
    """Work out how tokens flow; the load of the busiest rank follows from imbalance and capacity."""
    training, parallelism = scenario.training.experts, scenario.parallelism
    mesh = ExpertMesh.of(parallelism)
    ep, etp = mesh.group("ep"), mesh.group("etp")
    differ = parallelism.sequence_parallel or parallelism.tp == 1
    together = shapes.divided_tokens * etp.size if differ else shapes.tokens
    per_expert = together * ep.size * experts.num_experts_per_tok // experts.num_experts
    rows = max(1, round(per_expert * training.load)) * (experts.num_experts // ep.size)
    sent = shapes.element_bytes if training.dispatch_dtype is None else 1 + FP8_SCALE_BYTES
    return TokenFlow(
        tokens=shapes.divided_tokens,
        copies=shapes.divided_tokens * experts.num_experts_per_tok * training.load,
        rows=rows,
        width=experts.moe_latent_size or scenario.model.hidden_size,
        element_bytes=shapes.element_bytes,
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
        fused=scenario.software.fused,
        sorts_copies=scenario.software.sorts_copies,
    )
