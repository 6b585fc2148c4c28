"""Expert tensor parallelism: ranks that divide an expert see each other's tokens and sum their results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.operation import Exchange, Step
from simulator.workload.work import Collective

if TYPE_CHECKING:
    from simulator.workload.layers.experts.token_load import TokenFlow
    from simulator.workload.work import CollectiveKind


def gather_rows(flow: TokenFlow) -> list[Step]:
    """Return the gathering of arrived tokens; ranks that hold the same tokens only sum their gradients."""
    if flow.etp.size == 1:
        return []
    if flow.gathers:
        return [_pair(flow, "all_gather", "reduce_scatter")]
    return [Exchange(forward=None, backward=_collective(flow, "all_reduce"), stream="tp")]


def reduce_rows(flow: TokenFlow) -> list[Step]:
    """Return the summing of results, scattered to the ranks that the tokens came from."""
    if flow.etp.size == 1:
        return []
    if flow.gathers:
        return [_pair(flow, "reduce_scatter", "all_gather")]
    return [Exchange(forward=_collective(flow, "all_reduce"), backward=None, stream="tp")]


def _pair(flow: TokenFlow, forward: CollectiveKind, backward: CollectiveKind) -> Exchange:
    return Exchange(forward=_collective(flow, forward), backward=_collective(flow, backward), stream="tp")


def _collective(flow: TokenFlow, kind: CollectiveKind) -> Collective:
    size = flow.copy_bytes * (1 if kind == "all_reduce" else flow.etp.size)
    return Collective(kind=kind, group=flow.etp, bytes=size, name=f"expert_{kind}")
