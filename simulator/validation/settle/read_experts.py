"""Readers of notes: experts, CUDA graphs, and the end of the step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

from simulator import catalogue
from simulator.scenario.training import CudaGraphScope
from simulator.validation.settle.facts import Keys

if TYPE_CHECKING:
    from simulator.validation.settle.facts import Facts


_ETP = re.compile(r"\bETP\s*=?\s*(TP)?\s*=?\s*(\d+)?")
_DISPATCHER = re.compile(r"\b(hybridep|deepep|alltoall|allgather)\b", re.IGNORECASE)
_OVERLAP = re.compile(r"\bEP (?:all-to-all )?overlap(?:ped)?\b(?:\s+(ON|OFF)\b)?")
_CAPACITY = re.compile(r"capacity factor (\d+(?:\.\d+)?)")
_STATIC = re.compile(r"static shapes")
_DROP = re.compile(r"\btoken drop\b")


def experts(facts: Facts) -> Keys:
    """Read how experts are divided, reached and filled."""
    degrees, notes = facts.degrees, facts.notes
    if not facts.has_experts or degrees is None:
        return {}
    keys = Keys()
    etp = notes.search(_ETP)
    if degrees.tp > 1 and etp is not None and (etp[1] or etp[2]):
        keys["parallelism.etp"] = int(etp[2]) if etp[2] else degrees.tp
    dispatcher = notes.search(_DISPATCHER)
    if degrees.ep > 1 and dispatcher is not None:
        keys["training.experts.dispatcher"] = dispatcher[1].lower()
    capacity, drop = notes.search(_CAPACITY), notes.search(_DROP)
    if capacity is not None:
        keys["training.experts.capacity_factor"] = float(capacity[1])
        keys["training.experts.pad_to_capacity"] = notes.search(_STATIC) is not None
    elif drop is not None and "training.experts.capacity_factor" not in facts.recipe.settings:
        # Megatron-Bridge's apply_moe_token_drop, and NeMo's: every expert computes its mean load.
        keys["training.experts.capacity_factor"] = 1.0
        keys["training.experts.pad_to_capacity"] = True
    overlap = notes.search(_OVERLAP)
    if degrees.ep > 1 and overlap is not None:
        keys["training.overlap.ep"] = overlap[1] != "OFF"
        if keys["training.overlap.ep"] and degrees.pp > 1 and degrees.vpp == 1:
            facts.impossible.append("overlap of expert communication needs several chunks per rank")
            keys["training.overlap.ep"] = False
    return keys


_GRAPHS = re.compile(r"scope=\[([^\]]*)\]|CUDA graphs ([\w+, ]+)", re.IGNORECASE)
_WHOLE_LAYERS = re.compile(r"\bcuda graphs on\b(?! for)", re.IGNORECASE)
"""Megatron-Core's ``enable_cuda_graph``: a graph for each layer, experts too if shapes never change."""
_FULL_ITERATION = re.compile(r"impl='?full_iteration")


def cuda_graphs(facts: Facts) -> Keys:
    """Read what CUDA graphs launch."""
    notes, key = facts.notes, "training.cuda_graphs"
    if key in facts.recipe.settings:
        return {}
    if notes.search(_WHOLE_LAYERS):
        return {key: ["attn", "mlp", "moe"] if notes.search(_DROP) else ["attn", "mlp"]}
    if notes.search(_FULL_ITERATION):
        return {key: ["full_iteration"]}
    match = notes.search(_GRAPHS)
    words = re.findall(r"\w+", (match[1] or match[2] or "") if match else "")
    scopes = [word for word in words if word in get_args(CudaGraphScope)]
    return {key: scopes} if scopes else {}


_NO_POST_VALIDATION = re.compile(r"without optimizer post-validation", re.IGNORECASE)
_ACCUMULATES_APART = re.compile(r"--no-gradient-accumulation-fusion")


def optimizer(facts: Facts) -> Keys:
    """Read how gradients are added up and the optimizer is synchronised."""
    keys = Keys()
    if facts.notes.search(_NO_POST_VALIDATION):
        keys["training.post_validation"] = False
    if facts.notes.search(_ACCUMULATES_APART) and not facts.recipe.fuses:
        name, _ = catalogue.software_for_stack(facts.row.software)
        keys["software.fused"] = sorted(catalogue.software(name).fused - {"gradient_accumulation"})
    return keys
