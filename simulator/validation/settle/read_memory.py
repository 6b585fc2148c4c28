"""Readers of notes: number formats, recomputation, offloading."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

from simulator.scenario.recompute import RecomputeModule
from simulator.validation.settle.facts import Keys

if TYPE_CHECKING:
    from simulator.validation.settle.facts import Facts
    from simulator.validation.settle.notes import Notes


_ROWWISE = re.compile(r"quantization (?:fp8|float8)[ -]?rowwise")
_GATHERED = re.compile(r"float8 all-gather")


def precision(facts: Facts) -> Keys:
    """Read how fp8 is scaled, and whether weights are gathered in it."""
    notes, keys = facts.notes, Keys()
    if notes.search(_ROWWISE) and facts.row.precision == "fp8-current":
        keys["training.precision"] = "fp8-rowwise"
    if notes.search(_GATHERED):
        keys["training.low_precision_params"] = True
    return keys


_MODULES = re.compile(
    r"(?:recompute_modules ?= ?\[|recompute modules ?= ?\[|recompute modules: |\(recompute )([a-z_, ']+)"
)
_LATER_MODULES = re.compile(r"Recompute modules: [\w +]+ up to step \d+, ([\w +]+) afterwards")
_BLOCK = re.compile(r"full recompute \(block\) of (\d+) layers per pipeline chunk")
_REMAT = re.compile(r"remat(?:_policy)?[= ](minimal|full|save_qkv_proj|qkv_proj_offloaded)\b")
_KEPT = re.compile(r"\b(query_proj|qkv_proj|context|decoder_layer_input)=(?:device|offload)\b")
"""What a custom policy of MaxText keeps (configs/base.yml, remat_policy custom); the rest is recomputed."""
_LATENT_NORM = re.compile(r"recompute of RMSNorm, MLA up-projection, SwiGLU")
_OFFLOADED = re.compile(r"activation CPU offload of (\d+) layers")


def recompute(facts: Facts) -> Keys:
    """Read which modules, and how many layers, are recomputed or offloaded."""
    notes, keys = facts.notes, Keys()
    stated, modules = facts.row.recompute, _modules(notes)
    block, remat = notes.search(_BLOCK), notes.search(_REMAT)
    kept = set(notes.findall(_KEPT))
    if stated is None and block is not None:
        stated = keys["training.recompute"] = "full"
    elif stated is None and modules:
        stated = "selective"
    granularity = stated or facts.defaults.recompute
    if granularity == "full" and block is not None:
        keys |= {"training.recompute_method": "block", "training.recompute_num_layers": int(block[1])}
    if granularity == "selective":
        keys |= _selective(modules, remat[1] if remat else "", kept, facts)
    offloaded = notes.search(_OFFLOADED)
    if offloaded is not None:
        keys |= {"training.offload.activations": "all", "training.offload.num_layers": int(offloaded[1])}
    return keys


def _selective(modules: list[str], policy: str, kept: set[str], facts: Facts) -> Keys:
    if modules:
        return {"training.recompute_modules": modules}
    if "training.recompute_modules" in facts.recipe.settings:
        return {}
    if policy == "minimal":
        return {"training.recompute_modules": ["save_dots"]}
    if policy == "qkv_proj_offloaded":
        return {"training.recompute_modules": ["save_qkv"], "training.offload.activations": "all"}
    return custom_policy(kept) if kept else {}


def custom_policy(kept: set[str]) -> Keys:
    """Return the recomputation that keeps the results named; with the layer's input alone, it is full.

    >>> custom_policy({"decoder_layer_input", "query_proj", "context"})
    {'training.recompute_modules': ['save_attention']}
    >>> custom_policy({"decoder_layer_input"})
    {'training.recompute': 'full'}
    """
    if "context" in kept:
        return {"training.recompute_modules": ["save_attention"]}
    if kept == {"decoder_layer_input"}:
        return {"training.recompute": "full"}
    return {"training.recompute_modules": ["save_qkv"]}


def _modules(notes: Notes) -> list[str]:
    if notes.search(_LATENT_NORM):
        return ["layernorm", "mla_up_proj", "moe_act"]
    match = notes.search(_MODULES) or notes.search(_LATER_MODULES)
    if match is None:
        return []
    names = [name.strip(" '") for name in re.split(r"[,+]", match[1])]
    return [name for name in names if name in get_args(RecomputeModule)]
