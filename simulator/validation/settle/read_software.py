"""Readers of notes: which software ran, in which release, and what its figures mean."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from simulator import catalogue

if TYPE_CHECKING:
    from simulator.validation.settle.facts import Facts, Keys


_COMMIT = re.compile(r"^Megatron-LM [0-9a-f]{7,}\b")
_ON_XLA = re.compile(r"\bJAX/XLA (?:MaxText|PAXML)\b|\((?:MaxText|PAXML) container [\d.]+\)")
_COMPILED = re.compile(
    r"(?<!no )(?<!without )\btorch[._]compile\b(?!\W*(?:false|off|disabled))|local_batch_size=2, compile"
    r"|\bcompiled (?:model|layers|blocks|with (?:torch )?inductor)"
    r"|\bmodel (?:is |was )?compiled\b|\bwith compile\b",
    re.IGNORECASE,
)
_VERSION = re.compile(
    r"\b(?:NeMo|Megatron[- ]Bridge|Megatron[- ]Core|Megatron[- ]LM|MCore"
    r"|torchtitan|MaxText|DeepSpeed|torchtune)"
    r"(?: framework)?(?: container| release| version| image)*(?:[ :@]| of )v?(\d+(?:\.\d+)+)",
    re.IGNORECASE,
)


def software(facts: Facts) -> Keys:
    """Read which software ran, where the stack does not name it.

    Notes that begin with a commit of Megatron-LM name it better than a citation, which is another's. One
    vendor's collection of recipes (DGXC) is listed under its own trainer, though some run on JAX.
    """
    row, notes = facts.row, facts.notes
    if row.stack is None or row.stack == "see notes":
        return {"software": "megatron-core"} if notes.search(_COMMIT) else {}
    if notes.search(_ON_XLA):
        return {"software": catalogue.software_for_stack("MaxText (XLA:GPU)")[0]}
    if notes.search(_COMPILED):
        compiled, _ = catalogue.software_for_stack(f"{row.stack}, torch.compile")
        if compiled != catalogue.software_for_stack(row.stack)[0]:
            return {"software": compiled}
    return {}


_PYTORCH = re.compile(r"\b(?:PyTorch|torch)(?: version| release)?[ =]+v?(\d+\.\d+)", re.IGNORECASE)


def pytorch(facts: Facts) -> Keys:
    """Read the release of PyTorch, which tells releases of stacks apart."""
    match = facts.notes.search(_PYTORCH)
    return {"pytorch": match[1]} if match else {}


def version(facts: Facts) -> Keys:
    """Read the release of the stack, where its name has none."""
    match = facts.notes.search(_VERSION)
    has_none = not re.search(r"\d", facts.row.stack or "")
    return {"version": match[1]} if match is not None and has_none else {}


_INFERRED_ATTENTION = re.compile(r"attention impl inferred")


def inferred(facts: Facts) -> Keys:
    """Read which fields the row's author inferred."""
    return {"inferred": ["attention"]} if facts.notes.search(_INFERRED_ATTENTION) else {}


_MEMORY = re.compile(
    r"max[ _]?(?:memory[ _])?(?P<allocated>allocated)|max[ _]?(?:memory[ _])?(?P<reserved>reserved)"
)


def memory_quantity(facts: Facts) -> Keys:
    """Read what was measured as peak memory."""
    match = facts.notes.search(_MEMORY)
    return {"memory_quantity": "allocated" if match["allocated"] else "reserved"} if match else {}
