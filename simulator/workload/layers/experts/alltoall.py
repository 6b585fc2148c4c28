"""NCCL's all-to-all: each copy of a token travels by itself (Megatron-Core's ``alltoall`` dispatcher)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.experts.expert_exchange import exchange
from simulator.workload.layers.experts.permutation import gather, sort, spread
from simulator.workload.layers.experts.tensor_exchange import gather_rows, reduce_rows

if TYPE_CHECKING:
    from simulator.workload.layers.experts.token_load import TokenFlow
    from simulator.workload.layers.operation import Step


def dispatch(flow: TokenFlow) -> list[Step]:
    """Return the way to the experts: permute, exchange, gather among expert-tensor ranks, sort."""
    tokens = flow.tokens * flow.width * flow.element_bytes
    steps: list[Step] = [spread(flow, "permute", tokens, flow.copy_bytes, flow.copies)]
    steps += exchange(flow, "dispatch", "nccl", forward=flow.sent_bytes, backward=flow.element_bytes)
    steps += gather_rows(flow)
    return steps + _sorted(flow, "sort_chunks")


def combine(flow: TokenFlow) -> list[Step]:
    """Return the way back: sort, sum among expert-tensor ranks, exchange, unpermute."""
    steps = _sorted(flow, "restore_chunks") + reduce_rows(flow)
    steps += exchange(flow, "combine", "nccl", forward=flow.element_bytes, backward=flow.sent_bytes)
    tokens = flow.tokens * flow.width * flow.element_bytes
    return [*steps, gather(flow, "unpermute", flow.copy_bytes, tokens)]


def _sorted(flow: TokenFlow, name: str) -> list[Step]:
    """Sort chunks where more than one sender meets more than one local expert."""
    senders = flow.ep.size * (flow.etp.size if flow.gathers else 1)
    if senders == 1 or flow.routing.experts == flow.ep.size:
        return []
    return [sort(name, flow.row_bytes)]
