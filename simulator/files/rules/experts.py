"""Experts: their mesh against the other one, and what must divide what."""

from __future__ import annotations

from simulator.files.findings import nearest_divisors
from simulator.files.rules.rule import Fact, Rule

PAIRED = ("1f1b", "interleaved")
"""Schedules whose passes run in pairs to hide exchanges (simulator.schedules.in_pairs)."""

_PRODUCT = "dp x cp x tp = {dp} x {parallelism.cp} x {parallelism.tp} = {stage_ranks}"
_MESH = {"dp": 4, "parallelism.cp": 1, "parallelism.tp": 2, "stage_ranks": 8, "expert_tp": 2}

ETP_DIVIDES = Rule(
    law="etp divides the ranks of a pipeline stage, dp x cp x tp",
    reads=("stage_ranks", "expert_tp"),
    holds=lambda ranks, etp: ranks % etp == 0,
    at="parallelism.etp",
    sentence="etp = {expert_tp} must divide " + _PRODUCT + "; nearest: {nearest}",
    nearest=nearest_divisors,
    example={**_MESH, "expert_tp": 3},
)
EP_DIVIDES = Rule(
    law="ep x etp divides the ranks of a pipeline stage, dp x cp x tp",
    reads=("stage_ranks", "expert_tp", "parallelism.ep"),
    holds=lambda ranks, etp, ep: ranks % (etp * ep) == 0,
    at="parallelism.ep",
    sentence="ep x etp = {parallelism.ep} x {expert_tp} = {expert_ranks} must divide "
    + _PRODUCT
    + "; nearest ep: {nearest}",
    nearest=lambda ranks, etp, ep: nearest_divisors(ranks // etp, ep),
    example={**_MESH, "parallelism.ep": 3, "expert_ranks": 6},
    needs=(ETP_DIVIDES,),
)

FACTS = (
    Fact(
        name="expert_tp",
        reads=("parallelism.etp", "parallelism.tp"),
        value=lambda etp, tp: tp if etp is None else etp,
        meaning="ranks that divide each expert: etp, by default tp",
    ),
    Fact(
        name="expert_ranks",
        reads=("parallelism.ep", "expert_tp"),
        value=lambda ep, etp: ep * etp,
        meaning="ranks that hold all experts of a layer once: ep x etp",
    ),
    Fact(
        name="stage_ranks",
        reads=("dp", "parallelism.cp", "parallelism.tp"),
        value=lambda dp, cp, tp: dp * cp * tp,
        meaning="ranks of a pipeline stage: dp x cp x tp",
    ),
    Fact(
        name="shared_channels",
        reads=("model.experts.num_shared_experts", "model.experts.moe_intermediate_size"),
        value=lambda count, width: (count or 0) * (width or 0),
        meaning="channels of the shared experts: num_shared_experts x moe_intermediate_size",
    ),
)

ETP_IS_TP = Rule(
    law="etp is tp where tensor-parallel ranks route the same tokens: without sequence_parallel",
    reads=("expert_tp", "parallelism.tp", "sequence_parallel"),
    holds=lambda etp, tp, divides: (etp == tp) | (tp == 1) | divides,
    at="parallelism.etp",
    sentence="etp = {expert_tp} differs from tp = {parallelism.tp}, which needs sequence_parallel: without "
    "it all tensor-parallel ranks route the same tokens; use etp: {parallelism.tp}",
    example={"expert_tp": 1, "parallelism.tp": 2, "sequence_parallel": False},
)
HAS_EXPERTS = Rule(
    law="ep is 1 where the model has no experts",
    reads=("parallelism.ep", "model.experts"),
    holds=lambda ep, experts: (ep == 1) | (experts is not None),
    at="parallelism.ep",
    sentence="ep = {parallelism.ep}, but {model.name} has no experts; use ep: 1",
    example={"parallelism.ep": 8, "model.experts": None, "model.name": "llama3-8b"},
)
EP_DIVIDES_EXPERTS = Rule(
    law="ep divides the experts",
    reads=("model.experts.num_experts", "parallelism.ep"),
    holds=lambda count, ep: True if count is None else count % ep == 0,
    at="parallelism.ep",
    sentence="ep = {parallelism.ep} does not divide the {model.experts.num_experts} experts of "
    "{model.name}; nearest: {nearest}",
    nearest=nearest_divisors,
    example={"model.experts.num_experts": 8, "parallelism.ep": 3, "model.name": "mixtral-8x7b"},
)
TP_DIVIDES_EXPERT = Rule(
    law="tp divides the width of an expert where etp is not given",
    reads=("model.experts.moe_intermediate_size", "parallelism.tp", "parallelism.etp"),
    holds=lambda width, tp, etp: True if width is None or etp is not None else width % tp == 0,
    at="parallelism.tp",
    sentence="tp = {parallelism.tp} does not divide the moe_intermediate_size of "
    "{model.experts.moe_intermediate_size}; nearest: {nearest}",
    nearest=lambda width, tp, _: nearest_divisors(width, tp),
    example={
        "model.experts.moe_intermediate_size": 1408,
        "parallelism.tp": 3,
        "parallelism.etp": None,
    },
)
ETP_DIVIDES_EXPERT = Rule(
    law="etp divides the width of an expert",
    reads=("model.experts.moe_intermediate_size", "parallelism.etp"),
    holds=lambda width, etp: width is None or etp is None or width % etp == 0,
    at="parallelism.etp",
    sentence="etp = {parallelism.etp} does not divide the moe_intermediate_size of "
    "{model.experts.moe_intermediate_size}; nearest: {nearest}",
    nearest=nearest_divisors,
    example={"model.experts.moe_intermediate_size": 1408, "parallelism.etp": 3},
)
TP_DIVIDES_SHARED = Rule(
    law="tp divides the channels of the shared experts",
    reads=("shared_channels", "parallelism.tp"),
    holds=lambda channels, tp: channels % tp == 0,
    at="parallelism.tp",
    sentence="tp = {parallelism.tp} does not divide the {shared_channels} channels of the shared experts; "
    "nearest: {nearest}",
    nearest=nearest_divisors,
    example={"shared_channels": 1408, "parallelism.tp": 3},
)
CHUNKS_HIDE_EXCHANGES = Rule(
    law="hiding exchanges behind another micro-batch needs vpp of 2 or more in a 1f1b pipeline",
    reads=("training.overlap.ep", "model.experts", "parallelism.pp", "parallelism.vpp", "schedule"),
    holds=lambda hides, experts, pp, vpp, schedule: (
        (pp == 1) | (vpp > 1) | (schedule != "1f1b") if hides and experts is not None else True
    ),
    at="training.overlap.ep",
    sentence="hiding exchanges behind another micro-batch needs vpp of 2 or more where pp > 1: with one "
    "chunk per rank, neighbouring ranks would wait for each other in turn (Megatron-Core's rule)",
    example={
        "training.overlap.ep": True,
        "model.experts": "experts",
        "parallelism.pp": 2,
        "parallelism.vpp": 1,
        "schedule": "1f1b",
    },
)
ONE_HIDES_EXCHANGES = Rule(
    law="one of overlap.ep and overlap.shared_experts hides the exchanges",
    reads=("training.overlap.ep", "training.overlap.shared_experts", "model.experts"),
    holds=lambda ep, shared, experts: not (ep and shared and experts is not None),
    at="training.overlap.shared_experts",
    sentence="shared experts cannot run beside exchanges that another micro-batch already hides "
    "(Megatron-Core's rule); set one of overlap.ep and overlap.shared_experts",
    example={
        "training.overlap.ep": True,
        "training.overlap.shared_experts": True,
        "model.experts": "experts",
    },
)

MESH = (ETP_DIVIDES, EP_DIVIDES)
"""How the ranks of a stage fold into the experts' mesh."""
DIVIDES = (HAS_EXPERTS, EP_DIVIDES_EXPERTS, TP_DIVIDES_EXPERT, ETP_DIVIDES_EXPERT, TP_DIVIDES_SHARED)
"""What ep, etp and tp must divide."""
RULES = (*MESH, ETP_IS_TP, *DIVIDES, CHUNKS_HIDE_EXCHANGES, ONE_HIDES_EXCHANGES)
