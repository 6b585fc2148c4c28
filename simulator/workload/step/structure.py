"""The structure of a scenario's step: its layout, and which of its stages and ranks are of one kind.

Slots are those of the layout, with those of one holding for each kind of stage, and of one rank for each kind
of rank, rather than for each of them: four equal stages between the first and the last one have one column of
costs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from simulator.workload.step.layout import StepLayout, lay_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.workload.program import Ints, Program
    from simulator.workload.step.inputs import LayoutInputs
    from simulator.workload.step.slots import Slots

_MOST_OPS = 20_000_000
"""Ops of the layouts that are kept; each takes some 200 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Structure:
    """A layout whose stages and ranks are of some kinds.

    Attributes:
        layout: The ops.
        slots: The slots of kinds.
        slot: [op] Slot of each op among these.
        stage_kind: [stage] Kind of each stage.
        holding_kind: [holding] Kind of each holding: of its stage, and of its rank's hardware.
        holdings: [kind of holding] One holding of each kind.
        rank_kind: [rank] Kind of each rank.
        ranks: [kind of rank] One rank of each kind.
        kinds_held: [kind of rank] Kinds of the stages that it holds, in model order.
        end_ranks: Ranks of the first and of the last stage.
    """

    layout: StepLayout
    slots: Slots
    slot: Ints
    stage_kind: Ints
    holding_kind: Ints
    holdings: tuple[int, ...]
    rank_kind: Ints
    ranks: tuple[int, ...]
    kinds_held: tuple[tuple[int, ...], ...]
    end_ranks: tuple[int, int]

    @classmethod
    def of(cls, layout: StepLayout, stage_kind: Sequence[int], hardware: Sequence[int]) -> Structure:
        """Arrange a layout for stages of some kinds.

        Args:
            layout: The ops.
            stage_kind: Kind of each stage.
            hardware: Kind of the hardware of each rank.
        """
        of_holding = [(stage_kind[held.stage], hardware[held.rank]) for held in layout.holdings]
        of_rank = [
            (tuple(stage_kind[stage] for stage in stages), hardware[rank])
            for rank, stages in enumerate(layout.held)
        ]
        holding_kind, holdings = _kinds(of_holding)
        rank_kind, ranks = _kinds(of_rank)
        slots, becomes = layout.slots.compressed(holding_kind, rank_kind)
        stages = [held.stage for held in layout.holdings]
        first, last = (layout.holdings[stages.index(stage)].rank for stage in (0, max(stages)))
        return cls(
            layout=layout,
            slots=slots,
            slot=becomes[layout.program.work],
            stage_kind=np.array(stage_kind),
            holding_kind=np.array(holding_kind),
            holdings=holdings,
            rank_kind=np.array(rank_kind),
            ranks=ranks,
            kinds_held=tuple(of_rank[rank][0] for rank in ranks),
            end_ranks=(first, last),
        )

    @property
    def program(self) -> Program:
        """The ops."""
        return self.layout.program


def _kinds(values: Sequence[object]) -> tuple[list[int], tuple[int, ...]]:
    """Number equal values alike; return the numbers, and where each number comes first."""
    first = dict[object, int]()
    for place, value in enumerate(values):
        first.setdefault(value, place)
    number = {value: index for index, value in enumerate(first)}
    return [number[value] for value in values], tuple(first.values())


@dataclass(slots=True)
class _Layouts:
    """Layouts and structures that were made, as long as they are not too large together."""

    ops: int = 0
    layouts: dict[LayoutInputs, StepLayout] = field(default_factory=dict)
    structures: dict[tuple[LayoutInputs, tuple[int, ...], tuple[int, ...]], Structure] = field(
        default_factory=dict
    )


_kept = _Layouts()


def structure_of(inputs: LayoutInputs, stage_kind: tuple[int, ...], hardware: tuple[int, ...]) -> Structure:
    """Return the structure of a step; cached by its arguments (see ``Structure.of``)."""
    key = (inputs, stage_kind, hardware)
    structure = _kept.structures.get(key)
    if structure is None:
        layout = _kept.layouts.get(inputs)
        if layout is None:
            layout = lay_out(inputs)
            if _kept.ops + layout.program.num_ops > _MOST_OPS:
                forget()
            _kept.ops += layout.program.num_ops
            _kept.layouts[inputs] = layout
        structure = _kept.structures[key] = Structure.of(layout, stage_kind, hardware)
    return structure


def forget() -> None:
    """Drop all layouts."""
    _kept.ops = 0
    _kept.layouts.clear()
    _kept.structures.clear()
