"""How tokens reach their experts while a model with experts is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dispatcher = Literal["alltoall", "allgather", "deepep", "hybridep"]

LEARNED_IMBALANCE = 1.04
"""Busiest over mean load with bias-balanced routing: arXiv:2408.15664, table 2, MaxVio 0.04 (1B and 3B).

An auxiliary loss alone leaves 0.52 to 0.72 per expert in the same table, less per rank of many experts.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertTraining:
    """How tokens are routed, sent to their experts and computed there.

    Attributes:
        dispatcher: Who carries tokens: NCCL's all-to-all, an all-gather of all tokens, DeepEP or HybridEP.
        dispatch_dtype: Number format of tokens on their way to experts; None: that of activations. Results
            always come back in the format of activations (DeepSeek-V3, arXiv:2412.19437, section 3.2.2).
        load_imbalance: Tokens of the busiest rank over the mean; 1: balanced by force.
        capacity_factor: Tokens that an expert takes at most over the mean, the rest being dropped; None:
            nothing is dropped.
        pad_to_capacity: Whether experts compute their whole capacity, so that shapes never change.
        grouped_gemm: Whether one call multiplies for all local experts, instead of one call for each.
    """

    dispatcher: Dispatcher = "alltoall"
    dispatch_dtype: Literal["fp8"] | None = None
    load_imbalance: float = 1.0
    capacity_factor: float | None = None
    pad_to_capacity: bool = False
    grouped_gemm: bool = True

    @property
    def load(self) -> float:
        """Tokens that the busiest rank computes, over the mean that is routed to a rank.

        >>> ExpertTraining(load_imbalance=1.2, capacity_factor=1.0).load
        1.0
        >>> ExpertTraining(load_imbalance=1.2, capacity_factor=1.5).load
        1.2
        >>> ExpertTraining(load_imbalance=1.2, capacity_factor=1.5, pad_to_capacity=True).load
        1.5
        """
        if self.capacity_factor is None:
            return self.load_imbalance
        if self.pad_to_capacity:
            return self.capacity_factor
        return min(self.load_imbalance, self.capacity_factor)
