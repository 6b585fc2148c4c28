"""How a row's experts are divided, reached and launched: what its notes say, else what its software does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

from simulator.errors import RowError
from simulator.scenario.training import CudaGraphScope

if TYPE_CHECKING:
    from simulator.validation.blanks import Blanks
    from simulator.validation.degrees import Degrees
    from simulator.validation.rows import Row

_ETP = re.compile(r"\bETP\s*=?\s*(TP)?\s*=?\s*(\d+)?")
_DISPATCHER = re.compile(r"\b(hybridep|deepep|alltoall|allgather)\b", re.IGNORECASE)
_OVERLAP = re.compile(r"\bEP (?:all-to-all )?overlap(?:ped)?\b(?:\s+(ON|OFF)\b)?")
_CAPACITY = re.compile(r"capacity factor (\d+(?:\.\d+)?)")
_GRAPHS = re.compile(r"scope=\[([^\]]*)\]|CUDA graphs ([\w+, ]+)", re.IGNORECASE)
_FOLDED_STACKS = frozenset({"torchtitan"})
"""Stacks whose experts are not divided by tp unless told so (torchtitan: expert_tensor_parallel_degree 1)."""


def expert_degrees(row: Row, degrees: Degrees, blanks: Blanks, *, has_experts: bool) -> dict[str, object]:
    """Return expert tensor parallelism; nothing where it equals tp, Megatron-Core's default.

    Raises:
        RowError: The ranks of a pipeline stage do not fold into so many expert-parallel ones.
    """
    ranks = degrees.tp * degrees.cp * degrees.dp
    if has_experts and ranks % degrees.ep:
        text = f"ep {degrees.ep} does not divide the {ranks} ranks of a pipeline stage"
        raise RowError(f"row contradicts itself: {text}")
    if not has_experts or degrees.tp == 1:
        return {}
    found = _ETP.search(row.notes)
    if found is not None and found[2]:
        return {"etp": int(found[2])}
    if found is not None and found[1]:
        return {}
    if blanks.defaults.name in _FOLDED_STACKS:
        return {"etp": blanks.fill("expert tensor parallelism", None, 1)}
    if degrees.dp * degrees.cp % degrees.ep:
        blanks.note("expert tensor parallelism not stated: 1, as ep does not divide dp x cp")
        return {"etp": 1}
    blanks.note("expert tensor parallelism not stated: as tp, the default of Megatron-Core")
    return {}


def expert_training(row: Row, degrees: Degrees, blanks: Blanks, *, has_experts: bool) -> dict[str, object]:
    """Return how tokens reach their experts."""
    if not has_experts:
        return {}
    document: dict[str, object] = {}
    dispatcher = _DISPATCHER.search(row.notes)
    if dispatcher is not None and degrees.ep > 1:
        document["dispatcher"] = dispatcher[1].lower()
    elif degrees.ep > 1:
        blanks.left("dispatcher of experts")
    capacity = _CAPACITY.search(row.notes)
    if capacity is not None:
        document["capacity_factor"] = float(capacity[1])
        document["pad_to_capacity"] = "static shapes" in row.notes
    return {"experts": document} if document else {}


def graph_scopes(row: Row) -> dict[str, object]:
    """Return what CUDA graphs launch, where the notes say it."""
    if re.search(r"impl='?full_iteration", row.notes):
        return {"cuda_graphs": ["full_iteration"]}
    found = _GRAPHS.search(row.notes)
    words = re.findall(r"\w+", (found[1] or found[2] or "") if found else "")
    scopes = [word for word in words if word in get_args(CudaGraphScope)]
    return {"cuda_graphs": scopes} if scopes else {}


def expert_overlap(row: Row, degrees: Degrees, blanks: Blanks, *, has_experts: bool) -> dict[str, bool]:
    """Return whether another micro-batch hides the exchanges among experts, where that is said."""
    found = _OVERLAP.search(row.notes)
    if found is None or not has_experts or degrees.ep == 1:
        return {}
    if found[1] == "OFF":
        return {"ep": False}
    if degrees.pp > 1 and degrees.vpp == 1:
        blanks.note("overlap of expert communication needs several chunks per rank: it is not simulated")
        return {}
    return {"ep": True}
