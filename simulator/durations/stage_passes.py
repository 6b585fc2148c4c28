"""What the passes of a step cost, stage kind by stage kind: the columns of ``templates``.

Everything here is looked up where a scenario with the same settings, as far as they matter, was asked about
before; see ``remembered``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.costs.system import System
from simulator.durations.layers import block_matrix_seconds, block_seconds
from simulator.scenario.remembered import remembered
from simulator.schedules.op_kind import OpKind
from simulator.workload.step.passes import block_of, pass_bytes
from simulator.workload.step.stages import stage_works

if TYPE_CHECKING:
    from simulator.durations.data_parallel import Starts
    from simulator.scenario import Scenario
    from simulator.workload.layers.layer_work import LayerWork
    from simulator.workload.layers.settings import LayerSettings
    from simulator.workload.program import Block, Floats
    from simulator.workload.step.stages import StageKind

PASSES = (OpKind.FORWARD, OpKind.BACKWARD, OpKind.BACKWARD_INPUT, OpKind.BACKWARD_WEIGHT)
"""Kinds of passes, in the order of the columns."""
SECONDS, SHARE, ALLOCATED, FREED = range(4)
"""Rows of what is known of each part: seconds alone, share of matrix kernels in them, and bytes.

Of a collective, the share is that of the multiprocessors that it takes.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorksCosts:
    """What the works of a stage cost, in model order.

    Attributes:
        table: Seconds alone by ``PASSES``, those of matrix kernels likewise, and bytes (rows) of each work:
            saved, kept for weight gradients (zero where no pass is split), and offloaded.
        working_bytes: The largest transient of a backward pass.
        splits: Whether backward passes are split.
    """

    table: Floats
    working_bytes: float
    splits: bool


def _works_costs(scenario: Scenario, kind: StageKind, settings: LayerSettings) -> WorksCosts:
    """Return what the works of a stage cost."""
    works = stage_works(kind, settings)
    distinct = {id(work): work for work in works}
    place = {identity: number for number, identity in enumerate(distinct)}
    columns = np.array([_work_costs(scenario, work) for work in distinct.values()]).T
    return WorksCosts(
        table=columns[:, [place[id(work)] for work in works]],
        working_bytes=max(work.working_bytes for work in distinct.values()),
        splits=all(work.halves is not None for work in distinct.values()),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PassCosts:
    """What passes over a stage cost.

    Attributes:
        table: Rows as above, by ``PASSES``, and whole or bucket by bucket.
        working_bytes: The largest transient of a backward pass.
    """

    table: Floats
    working_bytes: float


@remembered
def pass_costs(
    scenario: Scenario, kind: StageKind, settings: LayerSettings, starts: Starts | None
) -> PassCosts:
    """Return what passes over a stage cost.

    Args:
        scenario: The request.
        kind: The stage.
        settings: Settings of its layers.
        starts: Buckets that passes may be cut into.
    """
    works = _works_costs(scenario, kind, settings)
    table = _runs_costs(works, np.zeros(1, dtype=np.int64))
    if starts is not None:
        table = np.concatenate((table, _runs_costs(works, starts.works)), axis=2)
    return PassCosts(table=table, working_bytes=works.working_bytes)


def _runs_costs(works: WorksCosts, starts: np.ndarray) -> Floats:
    """Return what passes over runs of works cost, given where these begin."""
    costs = np.zeros((4, len(PASSES), len(starts)))
    sums = np.add.reduceat(works.table, starts, axis=1)
    seconds, matrix = sums[: len(PASSES)], sums[len(PASSES) : 2 * len(PASSES)]
    costs[SECONDS] = seconds
    np.divide(matrix, seconds, out=costs[SHARE], where=seconds > 0.0)
    np.minimum(costs[SHARE], 1.0, out=costs[SHARE])
    saved, kept, copied = sums[2 * len(PASSES) :]
    if copied.any():  # two layers' are on their way at a time
        copied = np.minimum(2 * np.maximum.reduceat(works.table[-1], starts), copied)
    for number, which in enumerate(PASSES if works.splits else PASSES[:2]):
        costs[ALLOCATED:, number] = pass_bytes(which, saved, kept, copied)
    return costs


def _work_costs(scenario: Scenario, work: LayerWork) -> list[float]:
    """Return a column of ``WorksCosts``: seconds, those of matrix kernels, and bytes."""
    seconds = np.zeros((2, len(PASSES)))
    for number, which in enumerate(PASSES if work.halves is not None else PASSES[:2]):
        seconds[:, number] = _block_costs(scenario, block_of(which, work))
    kept = 0.0 if work.halves is None else work.halves.kept_bytes
    return [*seconds.reshape(-1).tolist(), work.saved_bytes, kept, work.offloaded_bytes]


@remembered
def _block_costs(scenario: Scenario, block: Block) -> tuple[float, float]:
    if not block.program.num_ops:
        return 0.0, 0.0
    system = System.of(scenario)
    return block_seconds(block, system), block_matrix_seconds(block, system)
