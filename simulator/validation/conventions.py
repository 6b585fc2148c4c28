"""How a source counts FLOPs, read from what its rows say about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from simulator.validation.stacks import stack_defaults

if TYPE_CHECKING:
    from simulator.results.flops import Convention
    from simulator.validation.rows import Row

_ATTENTION = re.compile(
    r"(?P<full>non.?causal|not halved|no causal halving|attention(?: flops)? (?:in )?full|not divided by 2"
    r"|12\s*\*?\s*l\s*\*?\s*h\s*\*?\s*(?:q\s*\*?\s*t|s\b)|96\s*\*?\s*b)"
    r"|(?P<causal>causal.?halved|halved for causality|halved attention|causal (?:mla )?formula)",
    re.IGNORECASE,
)
_RECOMPUTE = re.compile(
    r"(?P<excluded>recompute not counted|no recompute|without recompute|excludes (?:recompute|checkpointing))"
    r"|(?P<counted>recompute counted|counts (?:activation )?recomput|8\s*\*?\s*n\b)",
    re.IGNORECASE,
)
_INFERRED = re.compile(r"attention NON-causal, recompute not counted \(inferred: no step times")
"""Of a source that states neither times nor a formula (arXiv:2504.14960). Its MFU falls by a tenth only from
4,096 to 131,072 tokens, where attention in full is 70% of all FLOPs and half of that is never computed: in
full the GPUs would do 41% less a second at 131,072 tokens than at 4,096, halved for causality 13% less."""
_PARAMETERS = re.compile(r"\b6\s*\*?\s*(?:seqlen\s*\*\s*)?n(?:_params)?\b", re.IGNORECASE)
_PEAK = re.compile(
    r"(?:\bpeak|\bvs|denominator is)\s+(?P<bf16>\d{3,4}(?:\.\d+)?)(?:\s*\(bf16\))?(?:\s*/\s*(?P<fp8>\d{4}))?"
    r"|(?P<before>\d{3,4}(?:\.\d+)?) peak",
    re.IGNORECASE,
)


def stated_convention(text: str) -> Convention | None:
    """Recognise how FLOPs were counted; None where the text does not tell.

    What stands first counts: the first clause is about the stated number, later ones about other sources.

    >>> stated_convention("F=96*B*s*L*h^2*(1+s/6h+V/16Lh): counts activation RECOMPUTATION (4x forward)")
    'recompute'
    >>> stated_convention("6*params per token, attention NON-causal, recompute not counted")
    'full'
    >>> stated_convention("attention core counted CAUSAL-HALVED; recompute NOT counted")
    'causal'
    >>> stated_convention("PaLM-style MFU: 6N+12Lhs per token")
    'palm'
    >>> stated_convention("time only") is None
    True
    """
    recompute = _RECOMPUTE.search(text)
    if recompute is not None and recompute["counted"]:
        return "recompute"
    attention = _ATTENTION.search(text)
    parameters = _PARAMETERS.search(text) is not None
    if attention is None:
        return "6n" if parameters else None
    if attention["causal"]:
        return "causal"
    return "palm" if parameters else "full"


def row_convention(row: Row) -> tuple[Convention, str | None]:
    """Return how a row counts FLOPs, and a warning where that is its stack's default."""
    text = row.flops_convention or ""
    if _INFERRED.search(text):
        return "causal", "FLOP convention inferred by the row: causal, which the source's long sequences need"
    stated = stated_convention(text)
    if stated is not None:
        return stated, None
    convention = stack_defaults(row.software).flops_convention
    return (
        convention,
        f"FLOP convention not recognised: {convention!r}, the default of {row.software!r}",
    )


def stated_peak_tflops(text: str, precision: str) -> float | None:
    """Return the peak that a source divides by, in TFLOP/s; None where the text does not tell.

    >>> stated_peak_tflops("recomputed (peak 989 bf16 / 1979 fp8 H100)", "bf16")
    989.0
    >>> stated_peak_tflops("peak 989 (BF16) / 1979 (FP8)", "fp8"), stated_peak_tflops("MFU vs 989.5", "fp8")
    (1979.0, 989.5)
    """
    match = _PEAK.search(text)
    if match is None:
        return None
    if match["fp8"] and precision == "fp8":
        return float(match["fp8"])
    return float(match["bf16"] or match["before"])
