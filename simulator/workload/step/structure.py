"""The structure of a scenario's step: its layout, and which of its stages and ranks are of one kind.

Slots are those of the layout, with those of one holding for each kind of stage, and of one rank for each kind
of rank, rather than for each of them: four equal stages between the first and the last one have one column of
costs. What the slots stand for is an ``Arrangement``; layouts that differ in the order of their ops share it,
and so the costs of their slots.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simulator.workload.step.layout import StepLayout, lay_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.workload.program import Ints, Program
    from simulator.workload.step.inputs import LayoutInputs
    from simulator.workload.step.slots import Slots

_MOST_OPS = 20_000_000
"""Ops of the layouts that are kept; each takes some 200 bytes."""


class HoldingKind(NamedTuple):
    """A stage on a rank that runs it, and all others with equal layers and hardware.

    Attributes:
        stage: Kind of the stage.
        rank: A rank that runs one of them.
        copies: All ranks that hold that stage, where it is more than one (DualPipe).
    """

    stage: int
    rank: int
    copies: tuple[int, ...]


class RankKind(NamedTuple):
    """A pipeline rank, and all others with equal stages and hardware.

    Attributes:
        rank: One of them.
        stages: Kinds of the stages that it holds, in model order.
    """

    rank: int
    stages: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arrangement:
    """What the slots of a structure stand for; one object for equal ones.

    Attributes:
        slots: The slots.
        holdings: Kinds of holdings, in the order of their blocks.
        ranks: Kinds of ranks, in the order of their blocks.
        end_ranks: Ranks of the first and of the last stage.
    """

    slots: Slots
    holdings: tuple[HoldingKind, ...]
    ranks: tuple[RankKind, ...]
    end_ranks: tuple[int, int]


_arrangement = lru_cache(maxsize=4096)(Arrangement)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Structure:
    """A layout whose stages and ranks are of some kinds.

    Attributes:
        layout: The ops.
        arrangement: The slots of kinds, and what they stand for.
        slot: [op] Slot of each op among these.
        stage_kind: [stage] Kind of each stage.
        rank_kind: [rank] Kind of each rank.
        derived: What others found out about it, to be found once.
    """

    layout: StepLayout
    arrangement: Arrangement
    slot: Ints
    stage_kind: Ints
    rank_kind: Ints
    derived: dict[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, layout: StepLayout, stage_kind: Sequence[int], hardware: Sequence[int]) -> Structure:
        """Arrange a layout for stages of some kinds.

        Args:
            layout: The ops.
            stage_kind: Kind of each stage.
            hardware: Kind of the hardware of each rank.
        """
        stages_held = [tuple(stage_kind[stage] for stage in stages) for stages in layout.held]
        holding_kind, holdings = _kinds(
            [(stage_kind[held.stage], hardware[held.rank]) for held in layout.holdings]
        )
        rank_kind, ranks = _kinds(list(zip(stages_held, hardware, strict=True)))
        slots, becomes = layout.slots.compressed(holding_kind, rank_kind)
        copies: dict[int, list[int]] = {}
        for stage, rank in layout.holdings:
            copies.setdefault(stage, []).append(rank)
        kinds = [
            HoldingKind(
                stage=stage_kind[held.stage],
                rank=held.rank,
                copies=tuple(copies[held.stage]) if len(copies[held.stage]) > 1 else (),
            )
            for held in (layout.holdings[holding] for holding in holdings)
        ]
        return cls(
            layout=layout,
            arrangement=_arrangement(
                slots=slots,
                holdings=tuple(kinds),
                ranks=tuple(RankKind(rank, stages_held[rank]) for rank in ranks),
                end_ranks=(copies[0][0], copies[max(copies)][0]),
            ),
            slot=becomes[layout.program.work],
            stage_kind=np.array(stage_kind),
            rank_kind=np.array(rank_kind),
        )

    @property
    def program(self) -> Program:
        """The ops."""
        return self.layout.program


def _kinds(values: Sequence[object]) -> tuple[list[int], tuple[int, ...]]:
    """Return the kind of each value, equal ones of one kind, and where each kind comes first."""
    first = dict[object, int]()
    for index, value in enumerate(values):
        first.setdefault(value, index)
    kind = {value: index for index, value in enumerate(first)}
    return [kind[value] for value in values], tuple(first.values())


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
