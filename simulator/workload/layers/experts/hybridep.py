"""HybridEP (github:deepseek-ai/DeepEP, branch hybrid-ep): DeepEP's traffic by TMA, with fewer SMs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.experts.deduplicated_dispatch import combine_once, dispatch_once

if TYPE_CHECKING:
    from simulator.workload.layers.experts.token_load import TokenFlow
    from simulator.workload.layers.operation import Step


def dispatch(flow: TokenFlow) -> list[Step]:
    """Return the exchange and the permutation."""
    return dispatch_once(flow, "hybridep")


def combine(flow: TokenFlow) -> list[Step]:
    """Return the inverse permutation and the exchange."""
    return combine_once(flow, "hybridep")
