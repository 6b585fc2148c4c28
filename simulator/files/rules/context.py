"""Context parallelism: what each exchange of keys and values needs, and chunks of the loss."""

from __future__ import annotations

from simulator.files.findings import nearest_divisors
from simulator.files.rules.rule import Fact, Rule

_HEADS = "an all-to-all exchanges heads: "
_MUST_DIVIDE = (
    " ranks must divide the {local_heads} key-value heads that tp = {parallelism.tp} leaves each rank; "
    "nearest: {nearest}"
)
_ELSE = "; use cp_comm: all_gather or all_to_all"
FUSED = "needs a fused attention kernel, which can merge partial results"
NO_WINDOWS = "does not support sliding windows and chunks (Transformer Engine)"
RINGS = ("ring", "hierarchical")


def divides_heads(heads: int, ranks: int) -> bool:
    """Tell whether ranks can exchange whole heads evenly (Transformer Engine)."""
    return heads > 0 and heads % ranks == 0


def _nearest_heads(heads: int, ranks: int, *_: object) -> str:
    return nearest_divisors(heads, ranks) if heads else "none with this tp"


HAS_CP_HEADS = Rule(
    law="the hierarchical exchange needs cp_heads, a divisor of cp",
    reads=("parallelism.cp", "parallelism.cp_heads", "parallelism.cp_comm"),
    holds=lambda cp, heads, comm: (
        cp == 1 or (heads is not None and cp % heads == 0) if comm == "hierarchical" else True
    ),
    at="parallelism.cp_comm",
    sentence="the hierarchical exchange needs cp_heads, a divisor of cp = {parallelism.cp}: the neighbouring "
    "ranks that exchange heads; nearest: {nearest}",
    nearest=lambda cp, heads, _: nearest_divisors(cp, heads or 2),
    example={"parallelism.cp": 4, "parallelism.cp_heads": None, "parallelism.cp_comm": "hierarchical"},
)

FACTS = (
    Fact(
        name="local_heads",
        reads=("model", "parallelism.tp"),
        value=lambda model, tp: (
            (model.num_attention_heads if model.latent_attention else model.num_key_value_heads) // tp
        ),
        meaning="key-value heads of a tensor-parallel rank that are not copies of another's",
    ),
    Fact(
        name="has_spans",
        reads=("model.sliding_window", "model.attention_chunk_size", "training.seq_length"),
        value=lambda window, chunk, length: any(
            span is not None and span < length for span in (window, chunk)
        ),
        meaning="whether sequences are longer than the model's sliding window or attention chunk",
    ),
    Fact(
        name="rank_tokens",
        reads=(
            "training.micro_batch_size",
            "training.seq_length",
            "parallelism.cp",
            "parallelism.tp",
            "sequence_parallel",
        ),
        value=lambda size, length, cp, tp, divides: size * length // (cp * (1 + (tp - 1) * divides)),
        meaning="tokens of a micro-batch on a rank: micro_batch_size x seq_length / cp, and / tp under "
        "sequence_parallel",
    ),
)

RULES = (
    Rule(
        law="an all_to_all exchange needs cp to divide the key-value heads of a rank",
        reads=("local_heads", "parallelism.cp", "parallelism.cp_comm"),
        holds=lambda heads, cp, comm: cp == 1 or divides_heads(heads, cp) if comm == "all_to_all" else True,
        at="parallelism.cp",
        sentence=_HEADS + "{parallelism.cp}" + _MUST_DIVIDE,
        nearest=_nearest_heads,
        example={
            "local_heads": 2,
            "parallelism.cp": 4,
            "parallelism.cp_comm": "all_to_all",
            "parallelism.tp": 4,
        },
    ),
    HAS_CP_HEADS,
    Rule(
        law="a hierarchical exchange needs cp_heads to divide the key-value heads of a rank",
        reads=("local_heads", "parallelism.cp_heads", "parallelism.cp_comm", "parallelism.cp"),
        holds=lambda heads, ranks, comm, cp: (
            cp == 1 or divides_heads(heads, ranks) if comm == "hierarchical" else True
        ),
        at="parallelism.cp_heads",
        sentence=_HEADS + "{parallelism.cp_heads}" + _MUST_DIVIDE,
        nearest=_nearest_heads,
        example={
            "local_heads": 3,
            "parallelism.cp_heads": 2,
            "parallelism.cp_comm": "hierarchical",
            "parallelism.cp": 4,
            "parallelism.tp": 4,
        },
        needs=(HAS_CP_HEADS,),
    ),
    Rule(
        law="a ring exchange needs attention without sliding windows and chunks",
        reads=("parallelism.cp_comm", "parallelism.cp", "has_spans"),
        holds=lambda comm, cp, has_spans: cp == 1 or comm not in RINGS or not has_spans,
        at="parallelism.cp_comm",
        sentence=f"a ring {NO_WINDOWS}{_ELSE}",
        example={"parallelism.cp_comm": "ring", "parallelism.cp": 2, "has_spans": True},
    ),
    Rule(
        law="a ring exchange needs a fused attention kernel",
        reads=("parallelism.cp_comm", "parallelism.cp", "has_spans", "training.attention"),
        holds=lambda comm, cp, has_spans, attention: (
            cp == 1 or comm not in RINGS or has_spans or attention != "unfused"
        ),
        at="parallelism.cp_comm",
        sentence=f"a ring {FUSED}{_ELSE}",
        example={
            "parallelism.cp_comm": "ring",
            "parallelism.cp": 2,
            "has_spans": False,
            "training.attention": "unfused",
        },
    ),
    Rule(
        law="loss_chunks divides the tokens of a rank",
        reads=("rank_tokens", "training.loss_chunks"),
        holds=lambda tokens, chunks: tokens % chunks == 0,
        at="training.loss_chunks",
        sentence="{training.loss_chunks} chunks do not divide the {rank_tokens} tokens of a rank; "
        "nearest: {nearest}",
        nearest=nearest_divisors,
        example={"rank_tokens": 1024, "training.loss_chunks": 3},
    ),
)
