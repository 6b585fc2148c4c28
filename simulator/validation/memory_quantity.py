"""What a source measures as peak memory, as ``conventions`` tells how it counts FLOPs.

``allocated`` is what tensors took (``torch.cuda.max_memory_allocated``), ``reserved`` adds what the allocator
holds beyond them (``max_memory_reserved``), ``used`` adds the CUDA context and the buffers of libraries that
do not ask the allocator (``nvidia-smi``). Only ``used`` tells what fits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.validation.defaults import stack_defaults

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from simulator.validation.rows import MemoryQuantity, Row

_LEFT_OUT: dict[MemoryQuantity, frozenset[str]] = {
    "allocated": frozenset({"framework", "fragmentation"}),
    "reserved": frozenset({"framework"}),
    "used": frozenset(),
}
_STATED = re.compile(
    r"max[ _]?(?:memory[ _])?(?P<allocated>allocated)|max[ _]?(?:memory[ _])?(?P<reserved>reserved)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedMemory:
    """A measured peak.

    Attributes:
        peak_bytes: Its size.
        quantity: What was measured.
    """

    peak_bytes: float
    quantity: MemoryQuantity

    def predicted(self, ranks: Iterable[Mapping[str, float]]) -> float:
        """Return the same quantity of the rank that holds most of it, given bytes by term for each rank."""
        left_out = _LEFT_OUT[self.quantity]
        return max(sum(size for term, size in terms.items() if term not in left_out) for terms in ranks)


def stated_quantity(text: str) -> MemoryQuantity | None:
    """Recognise what was measured; None where the text does not tell.

    >>> stated_quantity("peak = max over ranks of max_memory_allocated (measured)")
    'allocated'
    >>> stated_quantity("one iteration (10th), memory is max reserved.")
    'reserved'
    """
    found = _STATED.search(text)
    if found is None:
        return None
    return "allocated" if found["allocated"] else "reserved"


def published_memory(row: Row) -> PublishedMemory | None:
    """Return the peak memory that a row states, in what its stack measures; None where it states none."""
    measured, defaults = row.measured, stack_defaults(row.software)
    quantity = stated_quantity(row.notes) or defaults.memory
    if measured.peak_memory_gib is not None:
        return PublishedMemory(peak_bytes=measured.peak_memory_gib * 2**30, quantity=quantity)
    if measured.peak_memory_gb is None:
        return None
    unit = 2**30 if defaults.memory_in_gib else 1e9
    return PublishedMemory(peak_bytes=measured.peak_memory_gb * unit, quantity=quantity)
