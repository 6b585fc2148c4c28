"""Activation memory that passes take and give back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from simulator.schedules.op_kind import OpKind
from simulator.workload.step.slots import PASS_KINDS
from simulator.workload.step.stages import stage_works

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.workload.layers.settings import LayerSettings
    from simulator.workload.program import Floats
    from simulator.workload.step.slots import Slots
    from simulator.workload.step.stages import StageKind

FloatOrFloats = TypeVar("FloatOrFloats", float, NDArray[np.float64])

ALLOCATED, FREED = range(2)


def sums_of_parts(values: Floats, starts: Sequence[int]) -> Floats:
    """Add up what the works of a stage have, over the whole stage and over each of its parts.

    Args:
        values: [..., work] One number for each work, in model order.
        starts: The work with which each bucket begins; the first is 0.

    Returns:
        [..., 1 + bucket] First of all works, then of those of each bucket.

    >>> sums_of_parts(np.array([1.0, 2.0, 3.0]), [0, 2]).tolist()
    [6.0, 3.0, 3.0]
    """
    whole = np.add.reduceat(values, [0], axis=-1)
    return np.concatenate((whole, np.add.reduceat(values, starts, axis=-1)), axis=-1)


def copied_bytes(offloaded: Floats) -> float:
    """Return the activation bytes on their way to or from host memory while a pass over layers runs.

    One layer's are copied while the next layer computes, so two layers' exist at a time, in whatever parts a
    pass is cut.

    Args:
        offloaded: [work] Activation bytes of each work that wait in host memory.
    """
    return float(min(2 * offloaded.max(), offloaded.sum()))


def pass_bytes(
    kind: OpKind, saved: FloatOrFloats, kept: FloatOrFloats, copied: FloatOrFloats
) -> tuple[FloatOrFloats, FloatOrFloats]:
    """Return the activation bytes that passes take when they start and give back when they end.

    Input gradients free everything but what weight gradients wait with: inputs and output gradients of linear
    layers (Qi et al., arXiv:2401.10241, section 2).

    Args:
        kind: Kind of the passes.
        saved: Activation bytes that forward passes leave.
        kept: What weight gradients wait with.
        copied: Activation bytes on their way to or from host memory while a pass runs.
    """
    match kind:
        case OpKind.FORWARD:
            return saved + copied, copied
        case OpKind.BACKWARD_INPUT:
            return np.maximum(0.0, kept - saved) + copied, np.maximum(0.0, saved - kept) + copied
        case OpKind.BACKWARD_WEIGHT:
            return 0.0 * kept, kept
    return copied, saved + copied


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageBytes:
    """Activation memory of a stage.

    Attributes:
        table: [ALLOCATED or FREED, PASS_KINDS, 1 + bucket] Bytes that a pass over the whole stage, or over a
            part of it, takes when it starts and gives back when it ends; zero for halves of passes that are
            not split.
        working_bytes: The largest transient of a backward pass.
    """

    table: Floats
    working_bytes: float


@lru_cache(maxsize=4096)
def stage_bytes(kind: StageKind, settings: LayerSettings, starts: tuple[int, ...]) -> StageBytes:
    """Return what passes over a stage take and give back.

    Args:
        kind: The stage.
        settings: Settings of its layers.
        starts: The work with which each bucket of the stage begins.
    """
    works = stage_works(kind, settings)
    splits = all(work.halves is not None for work in works)
    saved, kept, offloaded = np.array(
        [
            (work.saved_bytes, work.halves.kept_bytes if work.halves else 0.0, work.offloaded_bytes)
            for work in works
        ]
    ).T
    table = np.zeros((2, len(PASS_KINDS), 1 + len(starts)))
    saved, kept = sums_of_parts(np.stack((saved, kept)), starts)
    copied = np.full(1 + len(starts), copied_bytes(offloaded))
    for number, pass_kind in enumerate(PASS_KINDS if splits else PASS_KINDS[:2]):
        table[:, number] = pass_bytes(pass_kind, saved, kept, copied)
    return StageBytes(table=table, working_bytes=max(work.working_bytes for work in works))


def put_passes(block: Floats, table: Floats, slots: Slots) -> None:
    """Put what passes over a stage cost, or take, into the block of a holding.

    Where no pass is cut, the layout has one bucket and the stage may have more; another stage may have more
    buckets than this one.

    Args:
        block: [row, slot of the holding] Zeros; becomes what each pass has.
        table: [row, PASS_KINDS, 1 + bucket]
        slots: The slots of the layout.
    """
    table_of_stage = block[:, : slots.collectives].reshape(len(block), len(PASS_KINDS), -1)
    width = min(table_of_stage.shape[2], table.shape[2])
    table_of_stage[..., :width] = table[..., :width]
