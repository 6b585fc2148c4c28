"""Parallel degrees: ranks against GPUs, heads, widths and the sequence."""

from __future__ import annotations

from simulator.files.findings import nearest_divisors, nearest_multiples
from simulator.files.rules.rule import Fact, Rule, no

_PRODUCT = "tp x pp x cp = {parallelism.tp} x {parallelism.pp} x {parallelism.cp} = {replica}"
_REPLICA = {"parallelism.tp": 2, "parallelism.pp": 3, "parallelism.cp": 1, "replica": 6}

REPLICA_FITS = Rule(
    law="the GPUs hold one replica of the model, tp x pp x cp",
    reads=("replica", "cluster.gpus"),
    holds=lambda replica, gpus: replica <= gpus,
    at="cluster.gpus",
    sentence=_PRODUCT + " GPUs for one replica of the model, but there are {cluster.gpus} GPUs",
    example={**_REPLICA, "cluster.gpus": 4},
)
REPLICAS_FILL_GPUS = Rule(
    law="tp x pp x cp divides the GPUs",
    reads=("cluster.gpus", "replica"),
    holds=lambda gpus, replica: gpus % replica == 0,
    at="cluster.gpus",
    sentence="{cluster.gpus} GPUs are no multiple of " + _PRODUCT + "; nearest: {nearest}",
    nearest=nearest_multiples,
    example={**_REPLICA, "cluster.gpus": 16},
    needs=(REPLICA_FITS,),
)
DP_MAKES_UP_GPUS = Rule(
    law="tp x pp x cp x dp is the number of GPUs",
    reads=("parallelism.dp", "replica", "cluster.gpus"),
    holds=lambda dp, replica, gpus: dp == "auto" or replica * dp == gpus,
    at="parallelism.dp",
    sentence=_PRODUCT + " times dp = {parallelism.dp} is {nearest}",
    nearest=lambda dp, replica, gpus: (
        f"{replica * dp} GPUs, but there are {gpus}; use dp: {gpus // replica} or dp: auto"
    ),
    example={**_REPLICA, "parallelism.dp": 3, "cluster.gpus": 12},
    needs=(REPLICAS_FILL_GPUS,),
)
HEADS = Rule(
    law="tp divides the attention heads",
    reads=("model.num_attention_heads", "parallelism.tp"),
    holds=lambda heads, tp: heads % tp == 0,
    at="parallelism.tp",
    sentence="tp = {parallelism.tp} does not divide the {model.num_attention_heads} attention heads of "
    "{model.name}; nearest: {nearest}",
    nearest=nearest_divisors,
    example={"model.num_attention_heads": 32, "parallelism.tp": 3, "model.name": "llama3-8b"},
)

FACTS = (
    Fact(
        name="replica",
        reads=("parallelism.tp", "parallelism.pp", "parallelism.cp"),
        value=lambda tp, pp, cp: tp * pp * cp,
        meaning="ranks that hold one copy of the model: tp x pp x cp",
    ),
    Fact(
        name="dp",
        reads=("cluster.gpus", "replica"),
        value=lambda gpus, replica: gpus // replica,
        meaning="data-parallel replicas: gpus / (tp x pp x cp)",
        needs=(DP_MAKES_UP_GPUS,),
    ),
    Fact(
        name="cp_parts",
        reads=("parallelism.cp", "parallelism.cp_balance"),
        value=lambda cp, balance: cp * (1 + (cp > 1) * balance),
        meaning="pieces of a sequence: cp, or 2 x cp where they balance causal attention (cp_balance)",
    ),
    Fact(
        name="rank_sequence",
        reads=("training.seq_length", "parallelism.cp"),
        value=lambda length, cp: length // cp,
        meaning="tokens of a sequence on a context-parallel rank: seq_length / cp",
    ),
    Fact(
        name="sequence_parallel",
        reads=("parallelism.sequence_parallel", "parallelism.tp"),
        value=lambda given, tp: (tp > 1) & (given is not False),
        meaning="whether norms and residuals are divided among tp ranks: by default where tp > 1",
    ),
    Fact(
        name="has_dense_layers",
        reads=("model",),
        value=lambda model: not all(map(model.is_moe_layer, range(model.num_hidden_layers))),
        meaning="whether some layer of the model has no experts",
    ),
)

KV_HEADS = Rule(
    law="tp divides the key-value heads, or they divide tp",
    reads=("model.num_key_value_heads", "parallelism.tp"),
    holds=lambda heads, tp: (heads % tp == 0) | (tp % heads == 0),
    at="parallelism.tp",
    sentence="tp = {parallelism.tp} and the {model.num_key_value_heads} key-value heads of {model.name} do "
    "not divide each other; nearest: {nearest}",
    nearest=nearest_divisors,
    example={"model.num_key_value_heads": 8, "parallelism.tp": 12, "model.name": "a model of 24 heads"},
    needs=(HEADS,),
)
INTERMEDIATE_SIZE = Rule(
    law="tp divides the intermediate_size of dense layers",
    reads=("model.intermediate_size", "parallelism.tp", "has_dense_layers"),
    holds=lambda width, tp, has_dense_layers: (width % tp == 0) if has_dense_layers else True,
    at="parallelism.tp",
    sentence="tp = {parallelism.tp} does not divide the intermediate_size of {model.intermediate_size}; "
    "nearest: {nearest}",
    nearest=lambda width, tp, _: nearest_divisors(width, tp),
    example={"model.intermediate_size": 14336, "parallelism.tp": 3, "has_dense_layers": True},
)
BALANCED_SEQUENCE = Rule(
    law="2 x cp divides the sequence where cp_balance gives each rank two pieces",
    reads=("training.seq_length", "cp_parts", "parallelism.cp"),
    holds=lambda length, parts, cp: (parts == cp) | (length % parts == 0),
    at="training.seq_length",
    sentence="{training.seq_length} is no multiple of 2 x cp = {cp_parts} (two pieces per rank balance "
    "causal attention); nearest: {nearest}",
    nearest=lambda length, parts, _: nearest_multiples(length, parts),
    example={"training.seq_length": 8190, "cp_parts": 8, "parallelism.cp": 4},
)
SEQUENCE = Rule(
    law="cp divides the sequence",
    reads=("training.seq_length", "cp_parts", "parallelism.cp"),
    holds=lambda length, parts, cp: (parts != cp) | (length % parts == 0),
    at="training.seq_length",
    sentence="{training.seq_length} is no multiple of cp = {cp_parts}; nearest: {nearest}",
    nearest=lambda length, parts, _: nearest_multiples(length, parts),
    example={"training.seq_length": 8190, "cp_parts": 4, "parallelism.cp": 4},
)
SEQUENCE_PARALLEL = Rule(
    law="tp divides the sequence of a rank, seq_length / cp, under sequence_parallel",
    reads=("training.seq_length", "cp_parts", "rank_sequence", "parallelism.tp", "sequence_parallel"),
    holds=lambda length, parts, local, tp, divides: no(divides) | (length % parts != 0) | (local % tp == 0),
    at="training.seq_length",
    sentence="{training.seq_length} / cp = {rank_sequence} is no multiple of tp = {parallelism.tp}, which "
    "sequence_parallel needs; nearest: {nearest}",
    nearest=lambda length, parts, _local, tp, _divides: nearest_multiples(length, parts * tp),
    example={
        "training.seq_length": 8190,
        "cp_parts": 1,
        "rank_sequence": 8190,
        "parallelism.tp": 4,
        "sequence_parallel": True,
    },
)
PLACEMENT = Rule(
    law="placement holds tp, cp, dp and pp once each",
    reads=("parallelism.placement",),
    holds=lambda placement: sorted(placement) == ["cp", "dp", "pp", "tp"],
    at="parallelism.placement",
    sentence="must hold tp, cp, dp and pp once each, got {parallelism.placement}",
    example={"parallelism.placement": ["tp", "dp", "pp"]},
)

TP_DIVIDES = (HEADS, KV_HEADS, INTERMEDIATE_SIZE)
"""What tp must divide."""
FILLS_GPUS = (REPLICA_FITS, REPLICAS_FILL_GPUS, DP_MAKES_UP_GPUS)
"""How replicas fill the GPUs."""
CP_DIVIDES = (BALANCED_SEQUENCE, SEQUENCE)
"""What cp must divide."""
RULES = (*FILLS_GPUS, *CP_DIVIDES, SEQUENCE_PARALLEL, PLACEMENT, *TP_DIVIDES)
