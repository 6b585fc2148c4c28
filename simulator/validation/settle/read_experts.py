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
_ETP = re.compile(r"\bETP\s*[=:]?\s*(TP)?\s*=?\s*(\d+)?", _IGNORECASE)
_EXPERT_TP = re.compile(
    r"\b(?:(?:experts?|moe)[ _-](?:tensor(?:[ _-](?:model[ _-])?parallel(?:ism)?)?|tp)"
    r"(?:[ _-](?:size|degree|rank))?"
    r"|tensor[ -]parallel(?:ism)? (?:of|in|for) (?:the )?experts)"
    r"\W*(?:(?:is|was)? ?set to|of|is|was|=|:)?\s*(?:(\d+|one)\b|(as tp|tp\b|same as tp|equals? tp))"
    r"|\b(?:experts (?:use|with|at|run) TP\W*|TP\W?(?=\d+ (?:for|of|in) (?:the )?experts))(\d+)"
    r"|\bexperts tensor[ -]parallel (as TP|like attention)"
    r"|\bTP=\d+ inside (?:a )?node for attention and (experts)",
    _IGNORECASE,
)
_EXPERTS_WHOLE = re.compile(
    r"\bexperts?(?: weights)? (?:are |is )?"
    r"(?:not (?:tensor[ -]|tp[ -])?(?:sharded|split|divided|parallel)"
    r"|unsharded)"
    r"|\b(?:no|without) (?:expert[ -](?:tensor|tp)|tensor[ -]parallel\w* (?:of|in|for) (?:the )?experts)"
    r"|\bTP (?:is )?(?:applied )?(?:to|for|of) attention only",
    _IGNORECASE,
)
_DISPATCHER = re.compile(r"(?:\b|_)(hybrid-?ep|deep-?ep|alltoall|allgather)\b", _IGNORECASE)
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
_OVERLAP = re.compile(
    rf"(?<!TP )(?<!CP )\b{_EXCHANGE} (?:is |are |was |were )?(?:(?:fully|mostly|partly|completely) )?"
    r"(?:overlapp(?:ed|ing)|overlaps?|hidden)\b"
    r"|\b(?:communication|comm) overlap (?:for|of|in) (?:the )?(?:expert parallelism|experts|moe)\b"
    rf"|\boverlap(?:s|ped|ping)?(?: of)?(?: the)? {_EXCHANGE}\b"
    r"|\boverlap[_-]moe[_-]expert[_-]parallel[_-]comm\b|\bmoe_a2a_overlap\b",
    _IGNORECASE,
)
_NO_OVERLAP = re.compile(
    rf"\b{_EXCHANGE} (?:is |are |was |were )?not (?:overlapped|hidden)|\b{_EXCHANGE} (?:is |are )?exposed",
    _IGNORECASE,
)
_CAPACITY = re.compile(r"(?:capacity[ _]factor|\bCF)\s*(?:of|=|:)?\s*(\d+(?:\.\d+)?)", _IGNORECASE)
_STATIC = re.compile(r"static shapes|pad(?:ded|s)? (?:\w+ )?to (?:expert )?capacity", _IGNORECASE)
_DROP = re.compile(
    r"\btoken[ -]drop(?:ping)?\b|\btokens? (?:are|is|were) dropped|\bdrops tokens"
    r"|\bdrop[ -]and[ -]pad",
    _IGNORECASE,
)
_DROPLESS = re.compile(
    r"\b(?:no|without) token[ -]?drop|\btoken[ -]?drop(?:ping)? (?:is )?(?:off|disabled)"
    r"|\b(?:token-?)?drop-?less\b|\bno tokens? (?:are |is |were )?dropped"
    r"|\btokens? (?:are|is|were) (?:never|not) dropped",
    _IGNORECASE,
)


_ROUTING = {
    "balanced": re.compile(
        r"\bforce[sd]?[ -](?:load[ -])?balanc\w+|\bforce_load_balancing\b|\bbalanced expert load\b",
        _IGNORECASE,
    ),
    "learned": re.compile(
        r"\b(?:learned|natural|unforced|real) (?:expert |token )?routing\b"
        r"|\b(?:aux(?:iliary)?[ -])?loss-free\b|\bbias-balanced\b",
        _IGNORECASE,
    ),
}
"""Load of experts, in the words of ``load_imbalance``."""


def experts(facts: Facts) -> Keys:
    """Read how experts are divided, reached and filled."""
    degrees, notes = facts.degrees, facts.notes
    if not facts.has_experts or degrees is None:
        return {}
    divided = _expert_tp(notes, degrees.tp)
    keys = divided if degrees.tp > 1 else Keys()
    routing = next((name for name, pattern in _ROUTING.items() if notes.affirmed(pattern)), None)
    if routing is not None:
        keys["training.experts.load_imbalance"] = routing
    dispatcher = notes.affirmed(_DISPATCHER) or notes.affirmed(_DISPATCH_BY)
    if degrees.ep > 1 and dispatcher is not None:
        name = next(filter(None, dispatcher.groups())).lower().replace("-to-", "to").replace("-", "")
        keys["training.experts.dispatcher"] = name
    keys |= _capacity(facts)
    overlaps = notes.says(_OVERLAP, _NO_OVERLAP) if degrees.ep > 1 else None
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
    if etp is None:
        return {}
    degree = etp[1] or etp[3]
    return {"parallelism.etp": tp if degree is None else 1 if degree.lower() == "one" else int(degree)}


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
    r"scope=\[([^\]]*)\]|CUDA[ -]graphs? (?!(?:are |is |were )?(?:not|off|disabled)\b)"
    r"(?:of |for |on |around |captures? )?(?:the )?([\w+, ]+)",
    _IGNORECASE,
)
_GRAPH_SETTING = re.compile(
    r"\bcuda_graph_scope\W*\[?([\w, '\"+]+)\]?"
    r"|\bCUDA[ -]graphs?(?: (?:are |is )?(?:on|enabled|used))?\s*[:=(]\s*([\w, +]+)",
    _IGNORECASE,
)
_WHOLE_LAYERS = re.compile(
    r"\bcuda[ -]graphs on\b(?! for)"
    r"|\b(?:with|uses?|using|enabled?) (?:te )?(?:cuda|hip)[ -]graphs?\b(?! (?:of|for|around))"
    r"|\b(?:cuda|hip)[ -]graphs? (?:are |is |was |were )?(?:used|enabled|per layer|in use|true)\b"
    r"|\b(?:one|a) (?:cuda|hip)[ -]graph (?:per|for each|for every) layer\b"
    r"|\b(?:layer-?wise|per-layer) (?:cuda|hip)[ -]graphs?\b"
    r"|\bTE (?:cuda[ -])?graphs?\b"
    r"|\benable_cuda_graph\b|\b(?:cuda|hip)[ -]graphs?\s*[:=]\s*(?:on|true|yes)\b",
    _IGNORECASE,
)
"""Megatron-Core's ``enable_cuda_graph``: a graph for each layer, experts too if shapes never change."""
_FULL_ITERATION = re.compile(
    r"impl\W{0,3}full_iteration|\bcuda_graph_scope\W*full_iteration"
    r"|\b(?:full|whole|entire)[ -](?:iteration|step)[ -](?:(?:cuda|hip)[ -])?graphs?\b"
    r"|\bfull (?:cuda|hip)[ -]graphs?\b"
    r"|\b(?:cuda|hip)[ -]graphs? (?:for|of|over|around) (?:the |a )?(?:whole|full|entire) (?:training )?"
    r"(?:step|iteration)"
    r"|\b(?:cuda|hip)[ -]graphs?(?: (?:are|is|on|enabled|used)){0,2}\s*[:=(]?\s*(?:for |of |over )?(?:the )?"
    r"(?:full|whole|entire)[ -](?:iteration|step)"
    r"|\bgraphs?(?: capture)? (?:of|for|over) the (?:full|whole|entire) (?:training )?(?:iteration|step)"
    r"|\b(?:cuda|hip)[ -]graphed (?:training )?(?:step|iteration)"
    r"|\b(?:whole|full|entire) (?:training )?(?:step|iteration) (?:is |was )?(?:captured |runs? )?"
    r"(?:as |in )(?:one |a )?(?:(?:cuda|hip)[ -])?graph",
    _IGNORECASE,
)
_GRAPHS = re.compile(
    r"\benable_cuda_graph\b|\b(?:cuda|hip)[ -]graphs?\b|\bcuda_graph(?:_impl)?(?:\W+impl)?\b", _IGNORECASE
)


def cuda_graphs(facts: Facts) -> Keys:
    """Read what CUDA graphs launch."""
    notes, key = facts.notes, "training.cuda_graphs"
    if key in facts.recipe.settings:
        return {}
    if notes.affirmed(_FULL_ITERATION):
        return {key: ["full_iteration"]}
    matches = filter(None, (notes.affirmed(pattern) for pattern in (_SCOPES, _GRAPH_SETTING)))
    words = [word for match in matches for word in re.findall(r"\w+", match[0])]
    scopes = [word for word in map(_scope, words) if word in get_args(CudaGraphScope)]
    if scopes:
        return {key: list(dict.fromkeys(scopes))}
    if notes.affirmed(_WHOLE_LAYERS):
        drops = notes.says(_DROP, _DROPLESS)
        return {key: ["attn", "mlp", "moe"] if drops else ["attn", "mlp"]}
    return {key: []} if notes.denies(_GRAPHS) else {}


def _scope(word: str) -> str:
    """Return the scope that a word means: ``attention`` is ``attn``."""
    return {"attention": "attn", "router": "moe_router", "experts": "moe"}.get(word.lower(), word.lower())


_NO_POST_VALIDATION = re.compile(r"without optimizer post-validation", re.IGNORECASE)
_ACCUMULATES_APART = re.compile(r"--no-gradient-accumulation-fusion")
_FUSED_LOSS = re.compile(
    r"\bfused (?:linear )?(?:cross[ -]entropy|CE|loss)\b|\bcross[ -]entropy(?:[ -]loss)?[ -]fusion\b",
    _IGNORECASE,
)


def fusions(facts: Facts) -> Keys:
    """Read what is fused beside the stack's default, and how the optimizer is synchronised."""
    notes, keys = facts.notes, Keys()
    if notes.search(_NO_POST_VALIDATION):
        keys["training.post_validation"] = False
    apart, loss = notes.search(_ACCUMULATES_APART), notes.says(_FUSED_LOSS)
    if facts.recipe.fuses or facts.row.kernel is not None:
        return keys
    name, _ = catalogue.software_for_stack(facts.row.software)
    lacks = {fusion for release in facts.defaults.releases_of(facts.row) for fusion in release.lacks}
    default = catalogue.software(name).fused - lacks
    fused = default - ({"gradient_accumulation"} if apart else set())
    if loss is not None:
        fused = fused | {"cross_entropy"} if loss else fused - {"cross_entropy"}
    if fused != default:
        keys["software.fused"] = sorted(fused)
    return keys
