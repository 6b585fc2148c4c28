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
    r"|(?:weights|parameters) (?:are )?gathered in (?:fp8|float8)"
    r"|\b(?:fp8|float8)[ _-](?:param\w*|weights?)[ _-]gather(?:ed)?\b",
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
    if notes.affirmed(_GATHERED):
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
    rf"\brecomput\w*(?: of)?(?: only)?(?: the)?(?: modules?)?[\s:=(\[']*"
    rf"((?:{_NAMES})(?:\W+(?:and )?(?:{_NAMES}))*)\b",
    re.IGNORECASE,
)
_RECOMPUTE = r"(?:(?:activation |gradient )?(?:recompute|recomputation|checkpointing)|AC)"
_FULL = re.compile(
    rf"\b(?:full|whole-layer|complete) {_RECOMPUTE}\b|\b{_RECOMPUTE}\W*(?:is )?full\b"
    r"|\b(?:activation|gradient) checkpointing (?:(?:of|on|for) (?:every|all) layers?|True|on\b|enabled)"
    r"|\b(?:activation|gradient) checkpointing(?=\s*(?:[;,.)]|$))"
    r"|\b(?:every|all|each) (?:transformer )?(?:layers?|blocks?) (?:is |are )?(?:recomputed|checkpointed)"
    r"|\bactivations (?:are|were) (?:checkpointed|recomputed)\b|\bremat(?:_policy)?\W*full\b"
    r"|\brecompute_granularity\W*full|\buse_checkpoint true",
    re.IGNORECASE,
)
_SELECTIVE = re.compile(
    rf"\bselective {_RECOMPUTE}\b|\b{_RECOMPUTE}\W*(?:is )?selective\b|\brecompute_granularity\W*selective",
    re.IGNORECASE,
)
_NO_RECOMPUTE = re.compile(
    rf"\b(?:no|without) {_RECOMPUTE}\b|\b{_RECOMPUTE}\W*(?:is |was )?(?:none|False|off|disabled|not used)\b"
    r"|\bnothing (?:is )?recomputed",
    re.IGNORECASE,
)
_BLOCK = re.compile(
    r"full recompute \(block\) of (\d+) layers per pipeline chunk"
    r"|\brecompute_method\W*block\W+recompute_num_layers\W*(\d+)"
    r"|\brecompute_num_layers\W*(\d+)\W+recompute_method\W*block"
    r"|\bblock (?:activation )?recompute\w* of (\d+) layers"
    r"|\brecomput\w* (?:of )?(\d+) layers (?:per|of each) (?:pipeline )?(?:stage|chunk)"
    r"|\b(\d+) layers (?:per|of each) (?:pipeline )?(?:stage|chunk) (?:are )?(?:fully )?recomputed",
    re.IGNORECASE,
)
_REMAT = re.compile(r"remat(?:_policy)?[= ](minimal|full|save_qkv_proj|qkv_proj_offloaded)\b")
_KEPT = re.compile(r"\b(query_proj|qkv_proj|context|decoder_layer_input)=(?:device|offload)\b")
"""What a custom policy of MaxText keeps (configs/base.yml, remat_policy custom); the rest is recomputed."""
_LATENT_NORM = re.compile(r"recompute of RMSNorm, MLA up-projection, SwiGLU")
_OFFLOADED = re.compile(
    r"activation (?:CPU )?offload(?:ing)? of (\d+) layers|cpu_offloading_num_layers\W*(\d+)"
    r"|activations of (\d+) layers (?:are )?offloaded"
    r"|\boffload(?:ing|s)?(?: of)? activations (?:of|for) (\d+) layers",
    re.IGNORECASE,
)
_ALL_OFFLOADED = re.compile(
    r"\bactivations (?:are )?offloaded to (?:the )?(?:CPU|host)"
    r"|\bactivation (?:CPU )?offload(?:ing)?\b(?! of)"
    r"|\boffload(?:ing|s)?(?: of)? activations\b",
    re.IGNORECASE,
)
_OPTIMIZER_OFFLOADED = re.compile(
    r"\b(?:optimizer|adamw?)(?: states?)? (?:is |are )?offloaded to (?:the )?(?:CPU|host)|\bZeRO-Offload\b"
    r"|\boffload(?:ing|s)?(?: of)?(?: the)? optimizer\b"
    r"|\b(?:CPU|host)[ -]offloaded (?:optimizer|adamw?)|\boptimizer (?:CPU )?offload(?:ing)?\b"
    r"|\boffload_optimizer\W*(?:device\W*)?(?:true|cpu)"
    r"|\boptimizer(?: states?)? (?:is |are |kept |held )*(?:in|on) (?:the )?(?:host|CPU)(?: memory)?\b",
    re.IGNORECASE,
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
    if notes.affirmed(_NO_RECOMPUTE):
        return "none"
    if notes.affirmed(_SELECTIVE):
        return "selective"
    return "full" if notes.affirmed(_FULL) else None


def offload(facts: Facts) -> Keys:
    """Read what waits in host memory."""
    notes, keys = facts.notes, Keys()
    match = notes.search(_OFFLOADED)
    if match is not None:
        layers = int(next(filter(None, match.groups())))
        keys |= {"training.offload.activations": "all", "training.offload.num_layers": layers}
    elif notes.says(_ALL_OFFLOADED):
        keys["training.offload.activations"] = "all"
    if notes.says(_OPTIMIZER_OFFLOADED):
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
    r"\b(?:loss|cross[ -]entropy)(?: loss)?(?: is)?(?: computed| cut| split)? (?:in|into) (\d+) chunks"
    r"|\b(\d+) (?:loss|cross[ -]entropy) chunks|\bchunked (?:loss|cross[ -]entropy)\W+(?:with )?(\d+) chunks",
    re.IGNORECASE,
)
_DOCUMENT_LENGTH = re.compile(
    r"\b(?:mean|average) document(?: length)?(?: of)? (\d[\d,]*)"
    r"|\bdocuments? mask\w* (?:with|of) (?:a )?(?:mean|average) length(?: of)? (\d[\d,]*)",
    re.IGNORECASE,
)


def sequence(facts: Facts) -> Keys:
    """Read how the loss is cut and how long documents are."""
    keys = Keys()
    chunks, documents = facts.notes.search(_CHUNKED_LOSS), facts.notes.search(_DOCUMENT_LENGTH)
    if chunks is not None:
        keys["training.loss_chunks"] = int(next(filter(None, chunks.groups())))
    if documents is not None:
        keys["training.mean_document_length"] = int((documents[1] or documents[2]).replace(",", ""))
    return keys
