"""The part of a scenario file that says how tokens reach their experts, in a training step."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simulator.documents import Also, Strict
from simulator.scenario.experts import LEARNED_IMBALANCE, Dispatcher, ExpertTraining

_DISPATCHERS = {"flex": "deepep", "AlltoAll": "alltoall", "AllGather": "allgather"}
Factor = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class ExpertsSection(Strict):
    """How tokens reach their experts and how these compute."""

    dispatcher: Annotated[
        Dispatcher | None,
        Also("moe_token_dispatcher_type", _DISPATCHERS),
        Also("moe_flex_dispatcher_backend"),
    ] = None
    """Who carries tokens: NCCL's alltoall, an allgather of all tokens, deepep or hybridep, which send a
    token once to each node and rank; default: as the software does."""
    dispatch_dtype: Annotated[Literal["fp8"] | None, Also("moe_dispatch_dtype", {"bf16": None})] = None
    """Number format of tokens on their way to experts; default: that of activations."""
    load_imbalance: Literal["balanced", "learned"] | Annotated[float, Field(ge=1, le=1e6)] = "balanced"
    """Tokens of the busiest rank over the mean: balanced is 1 (forced), learned 1.04 (bias-balanced
    routing, arXiv:2408.15664, table 2); routing with an auxiliary loss only is less even."""
    capacity_factor: Annotated[Factor | None, Also("moe_expert_capacity_factor")] = None
    """Tokens that an expert takes at most over the mean, the rest being dropped; default: none is dropped."""
    pad_to_capacity: Annotated[bool, Also("moe_pad_expert_input_to_capacity")] = False
    """Experts compute their whole capacity, so that shapes never change."""
    grouped_gemm: Annotated[bool, Also("moe_grouped_gemm")] = True
    """One call multiplies for all local experts, instead of one call for each."""

    def to_scenario(self, usual: Dispatcher) -> ExpertTraining:
        """Return the settings as scenario data; ``usual`` is the dispatcher of the software."""
        imbalance = {"balanced": 1.0, "learned": LEARNED_IMBALANCE}
        given = self.load_imbalance
        return ExpertTraining(
            dispatcher=self.dispatcher or usual,
            dispatch_dtype=self.dispatch_dtype,
            load_imbalance=imbalance[given] if isinstance(given, str) else given,
            capacity_factor=self.capacity_factor,
            pad_to_capacity=self.pad_to_capacity,
            grouped_gemm=self.grouped_gemm,
        )
