"""Recomputation, offloading and number formats of a published row.

The row's fields say how much is recomputed; which modules, how many layers and what is offloaded stand in its
notes, in the words of the stack's own settings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

from simulator.errors import RowError
from simulator.scenario.recompute import Recompute, RecomputeModule
from simulator.scenario.training import Precision
from simulator.validation.recipes import recipe_of

if TYPE_CHECKING:
    from simulator.validation.blanks import Blanks
    from simulator.validation.rows import Row

_MODULES = re.compile(
    r"(?:recompute_modules ?= ?\[|recompute modules ?= ?\[|recompute modules: |\(recompute )([a-z_, ']+)"
)
_LATER_MODULES = re.compile(r"Recompute modules: [\w +]+ up to step \d+, ([\w +]+) afterwards")
_BLOCK = re.compile(r"full recompute \(block\) of (\d+) layers per pipeline chunk")
_OFFLOADED = re.compile(r"activation CPU offload of (\d+) layers")
_REMAT = re.compile(r"remat(?:_policy)?[= ](minimal|full|save_qkv_proj|qkv_proj_offloaded)\b")
_KEPT = re.compile(r"\b(query_proj|qkv_proj|context|decoder_layer_input)=(?:device|offload)\b")
"""What a custom policy of MaxText keeps (configs/base.yml, remat_policy custom); the rest is recomputed."""
_ROWWISE = re.compile(r"quantization (?:fp8|float8)[ -]?rowwise")
_GATHERED = re.compile(r"float8 all-gather")
_LATENT_NORM = re.compile(r"recompute of RMSNorm, MLA up-projection, SwiGLU")
_STACK_PARAMS = {"fp8-delayed", "fp8-current", "fp8-mx"}


def precision_settings(row: Row, blanks: Blanks) -> dict[str, object]:
    """Return the number formats that a row states; weights are stored as its stack's recipes store them.

    Raises:
        RowError: The precision is not known.
    """
    stated = blanks.fill("precision", row.precision, blanks.defaults.precision)
    if stated not in get_args(Precision):
        raise RowError(f"precision {stated!r} is not known")
    if stated == "fp8-current" and _ROWWISE.search(row.notes):
        stated = "fp8-rowwise"
    document: dict[str, object] = {"precision": stated}
    if _GATHERED.search(row.notes or ""):
        document["low_precision_params"] = True
    elif blanks.defaults.low_precision_params and stated in _STACK_PARAMS:
        blanks.note(f"weights stored in {stated}: {blanks.defaults.name}'s recipes do so")
        document["low_precision_params"] = True
    kept = recipe_of(row).bf16_layers_at_end
    if kept:
        document["bf16_layers_at_end"] = kept
    return document


def recompute_settings(row: Row, blanks: Blanks) -> dict[str, object]:
    """Return what a row recomputes and offloads, as far as its fields and notes say."""
    notes = row.notes or ""
    stated = row.recompute
    block, remat = _BLOCK.search(notes), _REMAT.search(notes)
    modules = _modules(notes) or list(recipe_of(row).recompute_modules)
    if stated is None and block is not None:
        stated = "full"
    if stated is None and modules:
        stated = "selective"
    granularity = blanks.fill_known("recompute", stated, get_args(Recompute), blanks.defaults.recompute)
    document: dict[str, object] = {"recompute": granularity}
    if granularity == "full" and block is not None:
        document |= {"recompute_method": "block", "recompute_num_layers": int(block[1])}
    if granularity == "selective" and modules:
        document["recompute_modules"] = modules
    elif granularity == "selective" and remat is not None and remat[1] == "minimal":
        document["recompute_modules"] = ["save_dots"]
    elif granularity == "selective" and remat is not None and remat[1] == "qkv_proj_offloaded":
        document |= {"recompute_modules": ["save_qkv"], "offload": {"activations": "all"}}
    elif granularity == "selective" and (kept := set(_KEPT.findall(notes))):
        document |= _custom_policy(kept)
    elif granularity == "selective":
        blanks.left("recomputed modules")
    offloaded = _OFFLOADED.search(notes)
    if offloaded is not None:
        document["offload"] = {"activations": "all", "num_layers": int(offloaded[1])}
    return document


def _custom_policy(kept: set[str]) -> dict[str, object]:
    """Return the recomputation that keeps the results named; with the layer's input alone, it is full.

    >>> _custom_policy({"decoder_layer_input", "query_proj", "context"})
    {'recompute_modules': ['save_attention']}
    >>> _custom_policy({"decoder_layer_input"})
    {'recompute': 'full'}
    """
    if "context" in kept:
        return {"recompute_modules": ["save_attention"]}
    if kept == {"decoder_layer_input"}:
        return {"recompute": "full"}
    return {"recompute_modules": ["save_qkv"]}


def _modules(notes: str) -> list[str]:
    """Return the modules that notes name, for example ``recompute_modules=['mla_up_proj']``.

    >>> _modules("0.4.0: selective recompute modules=['moe_act', 'layernorm']; ...")
    ['moe_act', 'layernorm']
    """
    if _LATENT_NORM.search(notes):
        return ["layernorm", "mla_up_proj", "moe_act"]
    found = _MODULES.search(notes) or _LATER_MODULES.search(notes)
    if found is None:
        return []
    names = [name.strip(" '") for name in re.split(r"[,+]", found[1])]
    return [name for name in names if name in get_args(RecomputeModule)]
