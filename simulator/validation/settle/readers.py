"""All readers of notes: each looks for one kind of wording and returns what it says as keys of a row.

What no setting of a scenario can express is listed by name, never replaced in silence.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from simulator.validation.settle import read_experts, read_layout, read_memory, read_software

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from simulator.validation.settle.facts import Facts, Keys

_UNSUPPORTED: Mapping[str, str] = {
    "optimizer states of 8 bits": r"\b(?:8-?bit|paged)[\w -]{0,12}(?:adam|optimizer)|\badam\w*[ -]?8-?bit",
    "optimizer other than Adam": r"\b(?:adafactor|muon|sgd|lamb|lion|adagrad|shampoo|soap)\b",
    "optimizer step in the backward pass": r"\boptimizer (?:step )?(?:fused )?in(?:to)? (?:the )?backward\b",
    "low-rank adapters": r"\bq?lora\b",
    "power limit": r"\bpower[- ](?:limit(?:ed)?|cap(?:ped)?)\b|\b\d+ ?W (?:power )?(?:limit|cap)\b",
    "offload of parameters": r"\b(?:param(?:eter)?s?|weights) (?:are )?offload(?:ed|ing)?\b",
    "document mask of unknown document lengths": r"\b(?:intra-)?document[ -]mask(?:s|ing)?\b(?!.*\blength\b)",
    "sequences of other lengths than stated": r"\bpadded to the longest\b|\btruncated (?:at|to) \d+\b",
    "number of chunks of the loss": r"\bchunked (?:loss|cross[ -]entropy)\b(?!\W+(?:with )?\d)",
    "NCCL user buffers": r"\bnccl (?:user ?buffers?|ub)\b",
    "evaluation inside the timed steps": r"\bevaluation (?:is )?(?:inside|included)\b",
}
"""Name, and the wordings (of any case) that say it."""


def unsupported(facts: Facts) -> Keys:
    """Name what the notes say and no scenario can; nothing of it becomes a key."""
    for name, pattern in _UNSUPPORTED.items():
        match = facts.notes.affirmed(re.compile(pattern, re.IGNORECASE))
        if match is not None:
            facts.impossible.append(f"{name}: there is no such setting ({match[0]!r})")
    return {}


READERS: tuple[Callable[[Facts], Keys], ...] = (
    read_software.software,
    read_software.pytorch,
    read_software.version,
    read_software.inferred,
    read_software.memory_quantity,
    read_layout.recipe_layout,
    read_layout.batch,
    read_layout.stage_layers,
    read_layout.shard_group,
    read_layout.model,
    read_layout.overlaps,
    read_memory.precision,
    read_memory.recompute,
    read_memory.offload,
    read_memory.sequence,
    read_experts.experts,
    read_experts.cuda_graphs,
    read_experts.fusions,
    unsupported,
)
"""In an order in which later ones see what earlier ones settled."""
