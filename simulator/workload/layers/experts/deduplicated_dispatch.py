"""Dispatch by kernels that send a token once to each rank, whatever the number of its experts there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.experts.destinations import expected_targets
from simulator.workload.layers.experts.expert_exchange import exchange
from simulator.workload.layers.experts.permutation import gather, spread
from simulator.workload.layers.experts.tensor_exchange import gather_rows, reduce_rows

if TYPE_CHECKING:
    from simulator.workload.layers.experts.token_load import TokenFlow
    from simulator.workload.layers.operation import Step
    from simulator.workload.work import CollectiveKernel


def dispatch_once(flow: TokenFlow, kernel: CollectiveKernel) -> list[Step]:
    """Return the exchange, and the spreading of what arrives over local experts."""
    steps = exchange(flow, "dispatch", kernel, forward=flow.sent_bytes, backward=flow.element_bytes)
    return [*steps, *gather_rows(flow), spread(flow, "permute", _arrived(flow), flow.row_bytes, flow.rows)]


def combine_once(flow: TokenFlow, kernel: CollectiveKernel) -> list[Step]:
    """Return the summing of local copies, and the exchange that sums those of all ranks on its way."""
    return [
        gather(flow, "unpermute", flow.row_bytes, _arrived(flow)),
        *reduce_rows(flow),
        *exchange(flow, "combine", kernel, forward=flow.element_bytes, backward=flow.sent_bytes),
    ]


def _arrived(flow: TokenFlow) -> float:
    """Return the bytes of the tokens that arrive, each once."""
    return flow.row_bytes * expected_targets(flow.routing, flow.ep.size) / flow.routing.copies
