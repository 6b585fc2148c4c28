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
_GATHERED = re.compile(
    r"(?:float8|fp8)[ -](?:param(?:eter)?s?[ -])?all-gather"
    r"|(?:weights|parameters) (?:are )?gathered in (?:fp8|float8)",
    re.IGNORECASE,
)
_STATES = re.compile(
    r"\b(bf16|fp8|fp16|fp32|bfloat16) (?:optimizer|adam\w*) (?:states?|moments?)\b"
    r"|\b(?:optimizer|adam\w*) (?:states?|moments?) in (bf16|fp8|fp16|fp32|bfloat16)\b",
    re.IGNORECASE,
)
_MASTER = re.compile(
    r"\b(bf16|fp16|fp32) (?:master|primary|main) (?:weights?|params|parameters|copy)\b"
    r"|\b(?:master|primary|main) (?:weights|params|parameters) in (bf16|fp16|fp32)\b",
    re.IGNORECASE,
)


def precision(facts: Facts) -> Keys:
    """Read how fp8 is scaled, and whether weights are gathered in it."""
    notes, keys = facts.notes, Keys()
    if notes.search(_ROWWISE) and facts.row.precision == "fp8-current":
        keys["training.precision"] = "fp8-rowwise"
    if notes.search(_GATHERED):
        keys["training.low_precision_params"] = True
    for pattern, key in ((_STATES, "training.moment_dtype"), (_MASTER, "training.master_dtype")):
        match = notes.search(pattern)
        if match is not None:
            keys[key] = (match[1] or match[2]).lower().replace("bfloat16", "bf16")
    return keys


_MODULES = re.compile(
    r"(?:recompute_modules ?= ?\[|recompute modules ?= ?\[|recompute modules: |\(recompute )([a-z_, ']+)"
)
_LATER_MODULES = re.compile(r"Recompute modules: [\w +]+ up to step \d+, ([\w +]+) afterwards")
_NAMES = "|".join(get_args(RecomputeModule))
_NATURAL_MODULES = re.compile(
    rf"\brecomput\w*(?: of)?(?: only)?(?: the)?(?: modules?)?\s*[:=(\[']*"
    rf"((?:{_NAMES})(?:\W+(?:and )?(?:{_NAMES}))*)\b",
    re.IGNORECASE,
)
_FULL = re.compile(
    r"\b(?:full|whole-layer|complete) (?:activation )?(?:recompute|recomputation|checkpointing)\b"
    r"|\b(?:activation|gradient) checkpointing (?:of every layer|True|on\b|enabled)"
    r"|\b(?:every|all|each) (?:transformer )?(?:layers?|blocks?) (?:is |are )?(?:recomputed|checkpointed)"
    r"|\brecompute_granularity\W*full|\buse_checkpoint true",
    re.IGNORECASE,
)
_SELECTIVE = re.compile(
    r"\bselective (?:activation )?(?:recompute|recomputation|checkpointing)\b"
    r"|\brecompute_granularity\W*selective",
    re.IGNORECASE,
)
_NO_RECOMPUTE = re.compile(
    r"\b(?:no|without) (?:activation |gradient )?(?:recompute|recomputation|checkpointing)\b"
    r"|\b(?:activation|gradient) checkpointing (?:False|off|disabled)|\bnothing (?:is )?recomputed",
    re.IGNORECASE,
)
_BLOCK = re.compile(
    r"full recompute \(block\) of (\d+) layers per pipeline chunk"
    r"|\brecompute_method\W*block\W+recompute_num_layers\W*(\d+)"
    r"|\b(\d+) layers (?:per|of each) (?:pipeline )?(?:stage|chunk) (?:are )?(?:fully )?recomputed",
    re.IGNORECASE,
)
_REMAT = re.compile(r"remat(?:_policy)?[= ](minimal|full|save_qkv_proj|qkv_proj_offloaded)\b")
_KEPT = re.compile(r"\b(query_proj|qkv_proj|context|decoder_layer_input)=(?:device|offload)\b")
"""What a custom policy of MaxText keeps (configs/base.yml, remat_policy custom); the rest is recomputed."""
_LATENT_NORM = re.compile(r"recompute of RMSNorm, MLA up-projection, SwiGLU")
_OFFLOADED = re.compile(
    r"activation (?:CPU )?offload(?:ing)? of (\d+) layers|cpu_offloading_num_layers\W*(\d+)"
    r"|activations of (\d+) layers (?:are )?offloaded",
    re.IGNORECASE,
)
_ALL_OFFLOADED = re.compile(
    r"\bactivations (?:are )?offloaded to (?:the )?(?:CPU|host)"
    r"|\bactivation (?:CPU )?offload(?:ing)?\b(?! of)",
    re.IGNORECASE,
)
_OPTIMIZER_OFFLOADED = re.compile(
    r"\b(?:optimizer|adamw?)(?: states?)? (?:is |are )?offloaded to (?:the )?(?:CPU|host)|\bZeRO-Offload\b"
    r"|\b(?:CPU|host)[ -]offloaded (?:optimizer|adamw?)|\boptimizer (?:CPU )?offload(?:ing)?\b"
    r"|\boffload_optimizer\W*(?:device\W*)?(?:true|cpu)",
    re.IGNORECASE,
)
_NO_OFFLOAD = re.compile(
    r"\b(?:no|without) (?:(?:activation|optimizer|cpu) )*offload|\boffload (?:False|off)\b", re.IGNORECASE
)


def recompute(facts: Facts) -> Keys:
    """Read which modules, and how many layers, are recomputed."""
    notes, keys = facts.notes, Keys()
    stated, modules = facts.row.recompute, _modules(notes)
    block, remat = notes.search(_BLOCK), notes.search(_REMAT)
    kept = set(notes.findall(_KEPT))
    natural = _granularity(notes)
    if stated is None and block is not None:
        stated = keys["training.recompute"] = "full"
    elif stated is None and modules:
        stated = "selective"
    elif stated is None and natural is not None:
        stated = keys["training.recompute"] = natural
    granularity = stated or facts.defaults.recompute
    if granularity == "full" and block is not None:
        layers = int(next(filter(None, block.groups())))
        keys |= {"training.recompute_method": "block", "training.recompute_num_layers": layers}
    if granularity == "selective":
        keys |= _selective(modules, remat[1] if remat else "", kept, facts)
    return keys


def _granularity(notes: Notes) -> str | None:
    if notes.search(_NO_RECOMPUTE):
        return "none"
    if notes.search(_SELECTIVE):
        return "selective"
    return "full" if notes.search(_FULL) else None


def offload(facts: Facts) -> Keys:
    """Read what waits in host memory."""
    notes, keys = facts.notes, Keys()
    match = notes.search(_OFFLOADED)
    if match is not None:
        layers = int(next(filter(None, match.groups())))
        keys |= {"training.offload.activations": "all", "training.offload.num_layers": layers}
    elif notes.says(_ALL_OFFLOADED, _NO_OFFLOAD):
        keys["training.offload.activations"] = "all"
    if notes.says(_OPTIMIZER_OFFLOADED, _NO_OFFLOAD):
        keys["training.offload.optimizer"] = "cpu"
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
    match = notes.search(_MODULES) or notes.search(_LATER_MODULES) or notes.search(_NATURAL_MODULES)
    names = re.findall(rf"\b(?:{_NAMES})\b", match[1].lower()) if match is not None else []
    return list(dict.fromkeys(names))


_CHUNKED_LOSS = re.compile(
    r"\b(?:loss|cross[ -]entropy) in (\d+) chunks|\b(\d+) (?:loss|cross[ -]entropy) chunks"
)
_DOCUMENT_LENGTH = re.compile(
    r"\b(?:mean|average) document(?: length)?(?: of)? (\d[\d,]*)(?: tokens)?", re.IGNORECASE
)


def sequence(facts: Facts) -> Keys:
    """Read how the loss is cut and how long documents are."""
    keys = Keys()
    chunks, documents = facts.notes.search(_CHUNKED_LOSS), facts.notes.search(_DOCUMENT_LENGTH)
    if chunks is not None:
        keys["training.loss_chunks"] = int(chunks[1] or chunks[2])
    if documents is not None:
        keys["training.mean_document_length"] = int(documents[1].replace(",", ""))
    return keys
