"""A scenario's pipeline schedule: the order of passes on every rank."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from simulator.schedules import SCHEDULES, Overlapped, Request, passes
from simulator.schedules.columns import Passes
from simulator.schedules.csv_form import CUSTOM, read_rows
from simulator.schedules.in_pairs import PAIRED, in_pairs
from simulator.schedules.with_vocabulary import with_vocabulary

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.scenario.parallelism import VocabularyMethod
    from simulator.schedules import Order, StageTimes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pipeline:
    """What decides in which order every pipeline rank runs its passes; one object for equal ones.

    Attributes:
        schedule: Name of the schedule.
        pp: Pipeline ranks.
        vpp: Model chunks per rank.
        num_microbatches: Micro-batches of a step.
        group_size: Micro-batches that go through a chunk before the next chunk's turn; None: the schedule's.
        rows: Actions of each rank in PyTorch's CSV form, where the schedule is ``custom``.
        vocabulary: How the output layer is divided among pipeline ranks.
        hides_exchanges: Whether a forward and a backward pass run together to hide each other's exchanges
            among experts, where the schedule has such pairs.
    """

    schedule: str
    pp: int
    vpp: int
    num_microbatches: int
    group_size: int | None = None
    rows: tuple[str, ...] = ()
    vocabulary: VocabularyMethod = "none"
    hides_exchanges: bool = False

    @staticmethod
    def of(scenario: Scenario) -> Pipeline:
        """Return the pipeline of a scenario."""
        parallelism = scenario.parallelism
        overlaps = scenario.training.overlap.ep and scenario.model.experts is not None
        return _pipeline(
            schedule=parallelism.schedule,
            pp=parallelism.pp,
            vpp=parallelism.vpp,
            num_microbatches=scenario.num_microbatches,
            group_size=parallelism.microbatch_group_size,
            rows=parallelism.schedule_rows,
            vocabulary=parallelism.vocabulary,
            hides_exchanges=overlaps and parallelism.ep > 1,
        )

    @property
    def stages(self) -> int:
        """Pipeline stages of the model."""
        return self.pp * self.vpp

    @property
    def runs_in_pairs(self) -> bool:
        """Whether forward and backward passes run together to hide the exchanges among experts."""
        return self.hides_exchanges and self.schedule in PAIRED

    @property
    def uses_times(self) -> bool:
        """Whether the order of passes depends on how long they take."""
        return self.schedule != CUSTOM and (SCHEDULES[self.schedule].uses_times or self.vocabulary != "none")

    def order(self, times: StageTimes | None = None) -> Order:
        """Return what every pipeline rank does, in its order.

        Args:
            times: How long passes take; equal times where they are not known.
        """
        if self.schedule == CUSTOM:
            return read_rows(self.rows)
        request = Request(
            pp=self.pp,
            vpp=self.vpp,
            num_microbatches=self.num_microbatches,
            group_size=self.group_size,
            times=times,
        )
        if self.vocabulary != "none":
            return with_vocabulary(SCHEDULES[self.schedule], request, self.vocabulary)
        order = SCHEDULES[self.schedule].order(request)
        return in_pairs(order) if self.runs_in_pairs else order


_pipeline = lru_cache(maxsize=4096)(Pipeline)


def splits_backward(schedule: str, rows: tuple[str, ...] = ()) -> bool:
    """Tell whether weight gradients are passes of their own.

    Args:
        schedule: Name of the schedule.
        rows: Actions of each rank in PyTorch's CSV form, where the schedule is ``custom``.
    """
    if schedule == CUSTOM:
        return any("I" in row for row in rows)
    return SCHEDULES[schedule].splits_backward


def held_stages(order: Order) -> tuple[tuple[int, ...], ...]:
    """Return the stages that each rank holds, in model order.

    >>> from simulator.schedules import SCHEDULES, Request
    >>> held_stages(SCHEDULES["zb-v"].order(Request(pp=2, vpp=2, num_microbatches=4)))
    ((0, 3), (1, 2))
    """
    return tuple(tuple(sorted(set(actions.stage.tolist()))) for actions in plain(order))


def plain(order: Order) -> tuple[Passes, ...]:
    """Return an order with overlapped pairs as single passes."""
    return tuple(entries if isinstance(entries, Passes) else Passes.of(passes(entries)) for entries in order)


@cache
def pairs_passes(schedule: str) -> bool:
    """Tell whether a schedule itself runs forward and backward passes together, as DualPipe does."""
    if schedule not in SCHEDULES:
        return True
    chunks = SCHEDULES[schedule].chunks[0]
    order = SCHEDULES[schedule].order(Request(pp=2, vpp=chunks, num_microbatches=8))
    return any(isinstance(entry, Overlapped) for entries in order for entry in entries)
