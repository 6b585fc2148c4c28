"""Kernels that a row's software has or lacks beside its stack: those it names, those of later releases."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from simulator import catalogue
from simulator.validation.recipes import recipe_of
from simulator.validation.releases import is_early

if TYPE_CHECKING:
    from simulator.validation.blanks import Blanks
    from simulator.validation.rows import Row

_ATTENTION_KERNELS = ("unfused", "flash1", "flash2", "flash3", "cudnn")
_INFERRED = re.compile(r"attention impl inferred")
_KNOWN = ("torch", "fused", "flash_attention", "flash_attentionv1.0.8", "flash_attention2")
_FUSED_NORM = " + RMS kernel"
_ACCUMULATES_APART = "--no-gradient-accumulation-fusion"


def attention_of(kernel: str) -> str:
    """Return the attention kernel that a row's ``kernel`` names.

    >>> [attention_of(name) for name in ("torch", "flash_attentionv1.0.8", "flash_attention2 + RMS kernel")]
    ['unfused', 'flash1', 'flash2']
    """
    name = kernel.removesuffix(_FUSED_NORM)
    if name in {"torch", "fused"}:
        return "unfused"
    return "flash2" if name == "flash_attention2" else "flash1"


def software_choice(row: Row, software: str, blanks: Blanks) -> object:
    """Return the software of a row: a catalogue name, or that entry with other fusions.

    ``fused`` is Megatron's fused soft-max, ``torch`` attention without it, ``+ RMS kernel`` flash-attention's
    fused norm (arXiv:2311.05610, section 3).
    """
    kernel = row.kernel
    usual = catalogue.software(software).fused
    if kernel is None:
        return _by_release(row, software, usual)
    attention = kernel.removesuffix(_FUSED_NORM)
    if attention not in _KNOWN:
        blanks.note(f"kernel {kernel!r} is not simulated; attention {row.attention!r} is")
        return software
    fused = usual | ({"norm"} if kernel.endswith(_FUSED_NORM) else set())
    fused -= {"softmax"} if attention == "torch" else set()
    if fused == usual:
        return software
    return _with_fused(software, fused, f"kernel {kernel!r} of the row")


def _by_release(row: Row, software: str, usual: frozenset[str]) -> object:
    """Return the software of a row with what its recipe fuses, its notes rule out or its release lacks."""
    extra = recipe_of(row).fused - usual
    if extra:
        return _with_fused(software, usual | extra, "the recipe of the row's release")
    if _ACCUMULATES_APART in row.notes:
        return _with_fused(software, usual - {"gradient_accumulation"}, "the row's notes")
    older = usual - {"router", "permute"}
    if older == usual or not is_early(row):
        return software
    return _with_fused(software, older, "PyTorch of the row: older than Transformer Engine 2.1")


def _with_fused(software: str, fused: frozenset[str], source: str) -> dict[str, object]:
    return {"like": software, "name": software, "fused": {"value": sorted(fused), "source": source}}


def attention_choice(row: Row, blanks: Blanks) -> dict[str, object]:
    """Return the attention kernel of a row.

    A kernel that the row's author inferred from today's version of the stack (``attention impl inferred``) is
    not a statement: that of the stack in the row's days stands in.
    """
    stated = None if _INFERRED.search(row.notes) else row.attention
    older = blanks.defaults.attention_on(row.gpu, row.named)
    if stated in _ATTENTION_KERNELS:
        return {"attention": stated}
    if stated is None and older is not None:
        return {"attention": blanks.fill("attention kernel", None, older)}
    if stated is None:
        blanks.left("attention kernel")
    else:
        blanks.note(f"attention kernel {stated!r} is not known: that of {blanks.software}")
    return {}
