"""Kernels that a row's software has or lacks beside its stack: those it names, those of later releases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator import catalogue

if TYPE_CHECKING:
    from simulator.validation.assumptions import Assumptions
    from simulator.validation.rows import Row

_ATTENTION_KERNELS = ("unfused", "flash1", "flash2", "flash3", "cudnn")
_ATTENTION_OF = {
    "torch": "unfused",
    "fused": "unfused",
    "flash_attention": "flash1",
    "flash_attentionv1.0.8": "flash1",
    "flash_attention2": "flash2",
}
_FUSED_NORM = " + RMS kernel"


def attention_of(kernel: str) -> str:
    """Return the attention kernel that a row's ``kernel`` names.

    >>> [attention_of(name) for name in ("torch", "flash_attentionv1.0.8", "flash_attention2 + RMS kernel")]
    ['unfused', 'flash1', 'flash2']
    """
    return _ATTENTION_OF.get(kernel.removesuffix(_FUSED_NORM), "flash1")


def software_choice(row: Row, assumptions: Assumptions) -> object:
    """Return the software of a row: a catalogue name, or that entry with other fusions.

    ``fused`` is Megatron's fused softmax, ``torch`` attention without it, ``+ RMS kernel`` flash-attention's
    fused norm (arXiv:2311.05610, section 3).
    """
    kernel, software = row.kernel, assumptions.software
    default = catalogue.software(software).fused
    if kernel is None:
        return _of_release(row, assumptions, default)
    attention = kernel.removesuffix(_FUSED_NORM)
    if attention not in _ATTENTION_OF:
        assumptions.note(f"kernel {kernel!r} is not simulated; attention {row.attention!r} is")
        return software
    fused = default | ({"norm"} if kernel.endswith(_FUSED_NORM) else set())
    fused -= {"softmax"} if attention == "torch" else set()
    if fused == default:
        return software
    return _with_fused(software, fused, f"kernel {kernel!r} of the row")


def _of_release(row: Row, assumptions: Assumptions, default: frozenset[str]) -> object:
    """Return the software of a row with what its recipe fuses beside its default, or its release lacks."""
    more = assumptions.defaults.recipe(row).fuses - default
    if more:
        return _with_fused(assumptions.software, default | more, "the recipe of the row's release")
    lacks = {name for release in assumptions.defaults.releases_of(row) for name in release.lacks}
    if not lacks & default:
        return assumptions.software
    return _with_fused(assumptions.software, default - lacks, f"the row's release, of PyTorch {row.pytorch}")


def _with_fused(software: str, fused: frozenset[str], source: str) -> dict[str, object]:
    return {"like": software, "name": software, "fused": {"value": sorted(fused), "source": source}}


def attention_choice(row: Row, assumptions: Assumptions) -> dict[str, object]:
    """Return the attention kernel of a row.

    A kernel that the row's author inferred from today's version of the stack is not a statement: that of the
    stack in the row's days stands in.
    """
    stated = None if "attention" in row.inferred else row.attention
    older = assumptions.defaults.attention_on(row.gpu, row.named)
    if stated in _ATTENTION_KERNELS:
        return {"attention": stated}
    if stated is None and older is not None:
        return {"attention": assumptions.default("attention kernel", None, older)}
    if stated is None:
        assumptions.stack_default("attention kernel", "training.attention")
    else:
        assumptions.note(f"attention kernel {stated!r} is not known: that of {assumptions.software}")
    return {}
