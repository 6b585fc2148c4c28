"""How long passes over a stage take: the whole stage, and each of its gradient buckets or FSDP units."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from simulator.durations.layers import block_matrix_seconds, block_seconds
from simulator.workload.step.pass_bytes import sums_of_parts
from simulator.workload.step.slots import PASS_KINDS
from simulator.workload.step.stages import stage_works
from simulator.workload.step.works import block_of

if TYPE_CHECKING:
    from simulator.costs.system import System
    from simulator.workload.layers.layer_work import LayerWork
    from simulator.workload.layers.settings import LayerSettings
    from simulator.workload.program import Block, BlockSequence, Floats
    from simulator.workload.step.stages import StageKind


@lru_cache(maxsize=16384)
def pass_costs(kind: StageKind, settings: LayerSettings, starts: tuple[int, ...], system: System) -> Floats:
    """Return how long passes over a stage take, and the share of matrix kernels in them.

    Args:
        kind: The stage.
        settings: Settings of its layers.
        starts: The work with which each bucket of the stage begins.
        system: The hardware and the software of the rank that runs it.

    Returns:
        [seconds or share, PASS_KINDS, 1 + bucket] Of the whole stage, and of each bucket; zero for halves of
        passes that are not split.
    """
    works = stage_works(kind, settings)
    different = dict.fromkeys(works)
    index = {work: position for position, work in enumerate(different)}
    costs = np.array([_work_seconds(work, system) for work in different])
    by_work = np.moveaxis(costs, 0, -1)[..., [index[work] for work in works]]
    seconds, matrix_s = sums_of_parts(by_work, starts)
    share = np.divide(matrix_s, seconds, out=np.zeros_like(seconds), where=seconds > 0.0)
    return np.stack((seconds, np.minimum(share, 1.0)))  # kernels that overlap with others count whole


@lru_cache(maxsize=16384)
def _work_seconds(work: LayerWork, system: System) -> Floats:
    """Return the seconds of a work's passes, and of the matrix kernels in them."""
    seconds = np.zeros((2, len(PASS_KINDS)))
    for index, kind in enumerate(PASS_KINDS if work.halves is not None else PASS_KINDS[:2]):
        seconds[:, index] = _block_costs(block_of(kind, work), system)
    return seconds


@lru_cache(maxsize=65536)
def _block_costs(block: Block, system: System) -> tuple[float, float]:
    if not block.program.num_ops:
        return 0.0, 0.0
    return block_seconds(block, system), block_matrix_seconds(block, system)


def sequence_costs(work: BlockSequence, system: System) -> tuple[float, float]:
    """Return the seconds of a sequence of layers on one rank, and the share of matrix kernels in them."""
    seconds, matrix_s = (
        sum(count * cost(block, system) for block, count in work.blocks) * work.share
        for cost in (block_seconds, block_matrix_seconds)
    )
    return seconds, min(1.0, matrix_s / seconds) if seconds else 0.0
