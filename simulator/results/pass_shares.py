"""What the passes of a step spend their time on: seconds of each layer by category, summed over a pass."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.durations.layers import held_up_s, run_layer, runners_of
from simulator.results.breakdown import block_shares
from simulator.workload.program import BlockSequence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.costs.system import System
    from simulator.durations.layers import LayerRun
    from simulator.workload.program import Block, Program

_LAYERS = 4096


def sequence_shares(program: Program, system: System) -> dict[int, dict[str, float]]:
    """Return the seconds by category of every work that is a sequence of layers, by its index in ``works``.

    Where launching a layer's kernels takes longer than running them, the excess is overhead.
    """
    layers: dict[tuple[Block, int], Mapping[str, float]] = {}
    shares: dict[int, dict[str, float]] = {}
    kinds, runners = system.kinds(program.num_ranks), runners_of(program)
    for index, work in enumerate(program.works):
        if not isinstance(work, BlockSequence):
            continue
        kind = kinds[runners[index]]
        total: dict[str, float] = {}
        for block, count in work.blocks:
            key = (block, kind)
            if key not in layers:
                layers[key] = _block_shares(block, system.at(kind))
            for category, seconds in layers[key].items():
                total[category] = total.get(category, 0.0) + count * seconds * work.share
        shares[index] = total
    return shares


def _block_shares(block: Block, system: System) -> Mapping[str, float]:
    layer = run_layer(block.program, system)
    host_s = held_up_s(block, system, layer.makespan_s)
    shares = _layer_shares(layer)
    return {**shares, "overhead": shares.get("overhead", 0.0) + host_s} if host_s else shares


@lru_cache(maxsize=_LAYERS)
def _layer_shares(layer: LayerRun) -> Mapping[str, float]:
    return block_shares(layer.timeline)
