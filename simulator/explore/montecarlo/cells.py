"""Where GPUs sit in a step: a cell is one pipeline rank of one data-parallel replica, with all its GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.workload.grid import Mesh

if TYPE_CHECKING:
    from simulator.scenario import Parallelism
    from simulator.workload.program import Floats, Ints


def cell_of(parallelism: Parallelism, gpus: Ints) -> tuple[Ints, Ints]:
    """Return the pipeline rank and the replica of GPUs by their global ranks.

    >>> from simulator.scenario import Parallelism
    >>> layout = Parallelism(tp=2, pp=2, vpp=1, cp=1, ep=1, dp=2, sequence_parallel=True, schedule="1f1b",
    ...                      sharding="none", stage_layers=(1, 1))
    >>> [part.tolist() for part in cell_of(layout, np.arange(8))]
    [[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 1, 1]]
    """
    mesh = Mesh.of(parallelism)
    return gpus // mesh.stride("pp") % mesh.pp, gpus // mesh.stride("dp") % mesh.dp


def slowest_of_cells(parallelism: Parallelism, factors: Floats) -> Floats:
    """Return the largest factor among each cell's GPUs, of shape pipeline ranks x replicas.

    Tensor- and context-parallel ranks meet in every layer, and so do the replicas that share experts: the
    slowest of them sets their pace.

    Args:
        parallelism: The layout.
        factors: One number for each GPU by global rank.
    """
    found = np.zeros((parallelism.pp, parallelism.dp))
    np.maximum.at(found, cell_of(parallelism, np.arange(len(factors))), factors)
    shared = replicas_sharing_experts(parallelism)
    grouped = found.reshape(parallelism.pp, -1, shared)
    largest: Floats = np.repeat(grouped.max(axis=2), shared, axis=1)
    return largest


def replicas_sharing_experts(parallelism: Parallelism) -> int:
    """Return how many neighbouring replicas exchange tokens: those that expert parallelism reaches across."""
    own = parallelism.tp * parallelism.cp
    return max(1, min(parallelism.dp, parallelism.ep * parallelism.expert_tp // own))
