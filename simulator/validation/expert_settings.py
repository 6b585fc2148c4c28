"""How a row's experts are divided, reached and launched: what its notes say, else what its software does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

from simulator import catalogue
from simulator.errors import RowError
from simulator.scenario.training import CudaGraphScope
from simulator.validation.recipes import recipe_of

if TYPE_CHECKING:
    from simulator.validation.blanks import Blanks
    from simulator.validation.degrees import Degrees
    from simulator.validation.rows import Row

_ETP = re.compile(r"\bETP\s*=?\s*(TP)?\s*=?\s*(\d+)?")
_DISPATCHER = re.compile(r"\b(hybridep|deepep|alltoall|allgather)\b", re.IGNORECASE)
_OVERLAP = re.compile(r"\bEP (?:all-to-all )?overlap(?:ped)?\b(?:\s+(ON|OFF)\b)?")
_CAPACITY = re.compile(r"capacity factor (\d+(?:\.\d+)?)")
_DROP = re.compile(r"\btoken drop\b")
_GRAPHS = re.compile(r"scope=\[([^\]]*)\]|CUDA graphs ([\w+, ]+)", re.IGNORECASE)
_WHOLE_LAYERS = re.compile(r"\bcuda graphs on\b(?! for)", re.IGNORECASE)
"""Megatron-Core's ``enable_cuda_graph``: a graph for each layer, experts too if shapes never change."""
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
    recipe = recipe_of(row)
    stated, usual = _DISPATCHER.search(row.notes), recipe.dispatcher
    if degrees.ep > 1 and (stated is not None or usual is not None):
        document["dispatcher"] = stated[1].lower() if stated is not None else usual
    elif degrees.ep > 1:
        blanks.left("dispatcher of experts")
    if degrees.ep > 1 and recipe.dispatch_dtype is not None:
        document["dispatch_dtype"] = recipe.dispatch_dtype
    capacity = _CAPACITY.search(row.notes)
    if capacity is not None:
        document["capacity_factor"] = float(capacity[1])
        document["pad_to_capacity"] = "static shapes" in row.notes
    elif recipe.capacity_factor is not None:
        document |= {"capacity_factor": recipe.capacity_factor, "pad_to_capacity": True}
    elif _DROP.search(row.notes):
        # Megatron-Bridge's apply_moe_token_drop, and NeMo's: every expert computes its mean load.
        document |= {"capacity_factor": 1.0, "pad_to_capacity": True}
    return {"experts": document} if document else {}


def graph_scopes(row: Row) -> dict[str, object]:
    """Return what CUDA graphs launch, where the recipe or the notes say it."""
    usual = recipe_of(row).cuda_graphs
    if usual is not None:
        return {"cuda_graphs": list(usual)}
    if _WHOLE_LAYERS.search(row.notes):
        return {"cuda_graphs": ["attn", "mlp", "moe"] if _DROP.search(row.notes) else ["attn", "mlp"]}
    if re.search(r"impl='?full_iteration", row.notes):
        return {"cuda_graphs": ["full_iteration"]}
    found = _GRAPHS.search(row.notes)
    words = re.findall(r"\w+", (found[1] or found[2] or "") if found else "")
    scopes = [word for word in words if word in get_args(CudaGraphScope)]
    return {"cuda_graphs": scopes} if scopes else {}


def expert_overlap(row: Row, degrees: Degrees, blanks: Blanks, *, has_experts: bool) -> dict[str, bool]:
    """Return whether another micro-batch hides the exchanges among experts, where that is said."""
    found, usual = _OVERLAP.search(row.notes), recipe_of(row).ep_overlap
    if not has_experts or degrees.ep == 1:
        return {}
    if found is None and usual is None:
        return _beside_shared_experts(row, blanks)
    if found[1] == "OFF" if found is not None else not usual:
        return {"ep": False}
    if degrees.pp > 1 and degrees.vpp == 1:
        blanks.note("overlap of expert communication needs several chunks per rank: it is not simulated")
        return {}
    return {"ep": True}


def _beside_shared_experts(row: Row, blanks: Blanks) -> dict[str, bool]:
    """Return whether shared experts hide the exchanges: recipes of such models say so with an all-to-all."""
    stated = _DISPATCHER.search(row.notes)
    dispatcher = stated[1].lower() if stated is not None else recipe_of(row).dispatcher
    if dispatcher is None:
        dispatcher = catalogue.software(blanks.software).dispatcher
    if not blanks.defaults.overlaps_shared_experts or not row.arch.shared_experts or dispatcher != "alltoall":
        return {}
    blanks.note(f"shared experts run beside the exchanges among experts: {blanks.defaults.name}'s recipes")
    return {"shared_experts": True}
