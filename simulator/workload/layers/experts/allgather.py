"""All ranks see all tokens and keep those of their experts (Megatron-Core's ``allgather`` dispatcher)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.experts.permutation import gather, spread
from simulator.workload.layers.experts.tensor_exchange import gather_rows, reduce_rows
from simulator.workload.layers.operation import Exchange, Step
from simulator.workload.work import Collective, Group

if TYPE_CHECKING:
    from simulator.workload.layers.experts.token_load import TokenFlow
    from simulator.workload.work import CollectiveKind


def dispatch(flow: TokenFlow) -> list[Step]:
    """Return the gathering of all tokens of the experts' ranks, and the choice of local ones."""
    size = _all_bytes(flow, flow.sent_bytes)
    there, back = _collectives(
        flow, "all_gather", size, "reduce_scatter", _all_bytes(flow, flow.element_bytes)
    )
    steps: list[Step] = [] if there is None else [Exchange(forward=there, backward=back, stream="ep")]
    if not flow.gathers:
        steps += gather_rows(flow)
    return [*steps, spread(flow, "permute", flow.row_bytes, flow.row_bytes, flow.rows)]


def combine(flow: TokenFlow) -> list[Step]:
    """Return the summing of each expert's results into all tokens, scattered to where these came from."""
    everything = _all_bytes(flow, flow.element_bytes)
    there, back = _collectives(
        flow, "reduce_scatter", everything, "all_gather", _all_bytes(flow, flow.sent_bytes)
    )
    steps: list[Step] = [] if flow.gathers else reduce_rows(flow)
    steps.append(gather(flow, "unpermute", flow.row_bytes, everything))
    return steps if there is None else [*steps, Exchange(forward=there, backward=back, stream="ep")]


def _all_bytes(flow: TokenFlow, each: float) -> float:
    return flow.tokens * _everyone(flow).size * flow.width * each


def _everyone(flow: TokenFlow) -> Group:
    """Return the ranks that hold the tokens of the group: expert-tensor ranks too where theirs differ."""
    inner = flow.etp if flow.gathers and flow.etp.stride < flow.ep.stride else flow.ep
    return Group(axis="ep", size=flow.ep.size * (flow.etp.size if flow.gathers else 1), stride=inner.stride)


def _collectives(
    flow: TokenFlow,
    forward: CollectiveKind,
    forward_bytes: float,
    backward: CollectiveKind,
    backward_bytes: float,
) -> tuple[Collective, Collective] | tuple[None, None]:
    group = _everyone(flow)
    if group.size == 1:
        return None, None
    return (
        Collective(kind=forward, group=group, bytes=forward_bytes, name=f"expert_{forward}"),
        Collective(kind=backward, group=group, bytes=backward_bytes, name=f"expert_{backward}_grad"),
    )
