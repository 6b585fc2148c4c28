"""Readers of notes: experts, CUDA graphs, and the end of the step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

from simulator import catalogue
from simulator.scenario.training import CudaGraphScope
from simulator.validation.settle.facts import Keys

if TYPE_CHECKING:
    from simulator.validation.settle.facts import Facts
    from simulator.validation.settle.notes import Notes


_IGNORECASE = re.IGNORECASE
_ETP = re.compile(r"\bETP\s*=?\s*(TP)?\s*=?\s*(\d+)?")
_EXPERT_TP = re.compile(
    r"\bexperts?[ -](?:tensor(?:[ -]parallel(?:ism)?)?|tp)(?: (?:size|degree|rank))?\s*(?:of|is|=|:)?\s*"
    r"(?:(\d+)\b|(as tp|tp\b|same as tp|equals? tp))"
    r"|\bTP=\d+ inside (?:a )?node for attention and (experts)",
    _IGNORECASE,
)
_EXPERTS_WHOLE = re.compile(
    r"\bexperts?(?: weights)? (?:are |is )?"
    r"(?:not (?:tensor[ -]|tp[ -])?(?:sharded|split|divided|parallel)"
    r"|unsharded)|\bno expert[ -](?:tensor|tp)",
    _IGNORECASE,
)
_DISPATCHER = re.compile(r"\b(hybridep|deepep|alltoall|allgather)\b", _IGNORECASE)
_DISPATCH_BY = re.compile(
    r"\b(all-to-all|all-gather|hybrid-ep|deep-ep)(?: (?:token|moe|expert|flex))* dispatch"
    r"|\bdispatch\w*(?: of tokens| tokens)?(?: is"
    r"| are)?(?: done)?(?: by| with| via| through| over| using|:)? "
    r"(?:nccl'?s? |the )*(all-to-all|all-gather|hybrid-ep|deep-ep)",
    _IGNORECASE,
)
_EXCHANGE = (
    r"(?:(?:ep|moe|expert(?:[ -]parallel)?|experts')"
    r"(?: (?:communication|comm|all-?to-?alls?|a2a|exchange|dispatch))?"
    r"|(?:communication|exchange|all-?to-?alls?)(?: of| among| between)(?: the)? experts"
    r"|all-?to-?alls?|a2a|dispatch(?:(?: and |/)combine)?)"
)
_OVERLAP = re.compile(r"\bEP (?:all-to-all )?overlap(?:ped)?\b(?:\s+(ON|OFF)\b)?")
_NATURAL_OVERLAP = re.compile(
    rf"\b{_EXCHANGE} (?:is |are |was |were )?(?:overlapp(?:ed|ing)|overlaps?|hidden)\b"
    rf"|\boverlap(?:s|ped|ping)?(?: of)?(?: the)? {_EXCHANGE}\b"
    r"|overlap_moe_expert_parallel_comm\W*(?:=|:)? ?true",
    _IGNORECASE,
)
_NO_OVERLAP = re.compile(
    rf"\b(?:no|without|not)(?: any)? {_EXCHANGE} overlap|\bno overlap of(?: the)? {_EXCHANGE}"
    rf"|\b{_EXCHANGE} (?:is |are |was |were )?not (?:overlapped|hidden)|\b{_EXCHANGE} (?:is |are )?exposed"
    rf"|\b{_EXCHANGE} overlap(?:ping)? (?:is )?(?:off|disabled)"
    r"|overlap_moe_expert_parallel_comm\W*(?:=|:)? ?false",
    _IGNORECASE,
)
_CAPACITY = re.compile(r"capacity[ _]factor\s*(?:of|=|:)?\s*(\d+(?:\.\d+)?)", _IGNORECASE)
_STATIC = re.compile(r"static shapes|pad(?:ded|s)? (?:\w+ )?to (?:expert )?capacity", _IGNORECASE)
_DROP = re.compile(
    r"\btoken drop\b|\btoken-drop(?:ping)?\b|\btokens? (?:are|is) dropped|\bdrops tokens", _IGNORECASE
)
_DROPLESS = re.compile(
    r"\b(?:no|without) token[ -]?drop|\b(?:token-?)?drop-?less\b|\bno tokens? (?:are |is )?dropped",
    _IGNORECASE,
)


def experts(facts: Facts) -> Keys:
    """Read how experts are divided, reached and filled."""
    degrees, notes = facts.degrees, facts.notes
    if not facts.has_experts or degrees is None:
        return {}
    keys = _expert_tp(notes, degrees.tp) if degrees.tp > 1 else Keys()
    dispatcher = notes.search(_DISPATCHER) or notes.search(_DISPATCH_BY)
    if degrees.ep > 1 and dispatcher is not None:
        name = next(filter(None, dispatcher.groups())).lower().replace("-to-", "to").replace("-", "")
        keys["training.experts.dispatcher"] = name
    keys |= _capacity(facts)
    overlaps = _overlaps(notes) if degrees.ep > 1 else None
    if overlaps is not None:
        keys["training.overlap.ep"] = overlaps
        if overlaps and degrees.pp > 1 and degrees.vpp == 1:
            facts.impossible.append("overlap of expert communication needs several chunks per rank")
            keys["training.overlap.ep"] = False
    return keys


def _expert_tp(notes: Notes, tp: int) -> Keys:
    if notes.search(_EXPERTS_WHOLE):
        return {"parallelism.etp": 1}
    etp = notes.search(_ETP)
    if etp is not None and (etp[1] or etp[2]):
        return {"parallelism.etp": int(etp[2]) if etp[2] else tp}
    etp = notes.search(_EXPERT_TP)
    return {} if etp is None else {"parallelism.etp": int(etp[1]) if etp[1] else tp}


def _overlaps(notes: Notes) -> bool | None:
    match = notes.search(_OVERLAP)
    denied = notes.search(_NO_OVERLAP) is not None
    if match is not None:
        return match[1] != "OFF" and not denied
    return False if denied else notes.search(_NATURAL_OVERLAP) is not None or None


def _capacity(facts: Facts) -> Keys:
    notes = facts.notes
    factor, padded = "training.experts.capacity_factor", "training.experts.pad_to_capacity"
    capacity = notes.search(_CAPACITY)
    if capacity is not None:
        return {factor: float(capacity[1]), padded: notes.search(_STATIC) is not None}
    drops = notes.says(_DROP, _DROPLESS)
    if not drops or factor in facts.recipe.settings:
        return {}
    # Megatron-Bridge's apply_moe_token_drop, and NeMo's: every expert computes its mean load.
    return {factor: 1.0, padded: True}


_SCOPES = re.compile(
    r"scope=\[([^\]]*)\]|CUDA[ -]graphs? (?:of |for |on |around )?(?:the )?([\w+, ]+)", _IGNORECASE
)
_WHOLE_LAYERS = re.compile(
    r"\bcuda[ -]graphs on\b(?! for)"
    r"|\b(?:with|uses?|using|enabled?) (?:te )?(?:cuda|hip)[ -]graphs?\b(?! (?:of|for|around))"
    r"|\b(?:cuda|hip)[ -]graphs? (?:are |is |was |were )?(?:used|enabled|per layer|in use)\b"
    r"|\b(?:one|a) (?:cuda|hip)[ -]graph (?:per|for each|for every) layer\b",
    _IGNORECASE,
)
"""Megatron-Core's ``enable_cuda_graph``: a graph for each layer, experts too if shapes never change."""
_FULL_ITERATION = re.compile(
    r"impl='?full_iteration|\bfull[ -](?:iteration|step)[ -](?:(?:cuda|hip)[ -])?graphs?\b"
    r"|\bfull (?:cuda|hip)[ -]graphs?\b"
    r"|\b(?:cuda|hip)[ -]graphs? (?:for|of|over|around) (?:the |a )?(?:whole|full|entire) (?:training )?"
    r"(?:step|iteration)"
    r"|\b(?:whole|full|entire) (?:training )?(?:step|iteration) (?:is |was )?(?:captured |runs? )?"
    r"(?:as |in )(?:one |a )?(?:(?:cuda|hip)[ -])?graph",
    _IGNORECASE,
)
_NO_GRAPHS = re.compile(
    r"\b(?:no|without|not using) (?:cuda|hip)[ -]graphs?\b"
    r"|\b(?:cuda|hip)[ -]graphs? (?:are |is )?(?:off|disabled|not used)\b"
    r"|cuda_graph(?:_impl)?[ =]*(?:impl=)?'?(?:none|unset)",
    _IGNORECASE,
)


def cuda_graphs(facts: Facts) -> Keys:
    """Read what CUDA graphs launch."""
    notes, key = facts.notes, "training.cuda_graphs"
    if key in facts.recipe.settings:
        return {}
    if notes.search(_NO_GRAPHS):
        return {key: []}
    if notes.search(_FULL_ITERATION):
        return {key: ["full_iteration"]}
    match = notes.search(_SCOPES)
    words = re.findall(r"\w+", (match[1] or match[2] or "") if match else "")
    scopes = [word for word in map(_scope, words) if word in get_args(CudaGraphScope)]
    if scopes:
        return {key: list(dict.fromkeys(scopes))}
    if notes.search(_WHOLE_LAYERS):
        drops = notes.says(_DROP, _DROPLESS)
        return {key: ["attn", "mlp", "moe"] if drops else ["attn", "mlp"]}
    return {}


def _scope(word: str) -> str:
    """Return the scope that a word means: ``attention`` is ``attn``."""
    return {"attention": "attn", "router": "moe_router", "experts": "moe"}.get(word.lower(), word.lower())


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
