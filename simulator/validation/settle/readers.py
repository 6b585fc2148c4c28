"""All readers of notes: each looks for one kind of wording and returns what it says as keys of a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.validation.settle import read_experts, read_layout, read_memory, read_software

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.validation.settle.facts import Facts, Keys

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
    read_memory.precision,
    read_memory.recompute,
    read_memory.offload,
    read_memory.sequence,
    read_experts.experts,
    read_experts.cuda_graphs,
    read_experts.optimizer,
)
"""In an order in which later ones see what earlier ones settled."""
