"""What a pipeline schedule is asked, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.schedules.action import Order

_FARTHEST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """How long each stage works on one micro-batch; any unit.

    Attributes:
        forward: Forward pass of each stage.
        backward_input: Its backward pass without weight gradients.
        backward_weight: Its weight gradients.
        message: From the end of a pass to where the neighbouring stage can use its result.
        output: Forward and backward part of the output layer on one rank, where all ranks share it.
        weight_share: Share of a micro-batch's activations that waits for its weight gradients; default: 32 of
            the 34 bytes per element of a layer without its attention core (arXiv:2401.10241, table 1).
    """

    forward: tuple[float, ...]
    backward_input: tuple[float, ...]
    backward_weight: tuple[float, ...]
    message: float = 0.0
    output: tuple[float, float] = (0.5, 0.5)
    weight_share: float = 32 / 34

    @classmethod
    def equal(cls, stages: int) -> StageTimes:
        """Return one unit for each of the three passes, and messages that take no time."""
        return cls(forward=(1.0,) * stages, backward_input=(1.0,) * stages, backward_weight=(1.0,) * stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The pipeline that a schedule is asked for.

    Attributes:
        pp: Pipeline ranks.
        vpp: Model chunks per rank.
        num_microbatches: Micro-batches of one step.
        group_size: Micro-batches that go through a chunk before the next chunk's turn (interleaved schedules,
            Megatron's ``microbatch_group_size_per_virtual_pipeline_stage``); None for the usual one.
        times: How long passes take, for schedules that are made to measure.
    """

    pp: int
    vpp: int
    num_microbatches: int
    group_size: int | None = None
    times: StageTimes | None = None

    @property
    def stages(self) -> int:
        """Pipeline stages of the model."""
        return self.pp * self.vpp

    def stage_times(self) -> StageTimes:
        """Return the times, or equal ones where none are known."""
        return self.times or StageTimes.equal(self.stages)


def _always(_request: Request) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A pipeline schedule.

    Attributes:
        name: What scenario files call it.
        order: Gives every rank's passes in their order.
        source: Where it is described.
        chunks: Model chunks per rank that it runs: the fewest and the most (None: any number).
        splits_backward: Whether weight gradients are passes of their own.
        uses_times: Whether the order depends on how long passes take.
        copies: How many ranks hold each stage.
        post_validates: Whether, unless the scenario says otherwise, ranks update their weights without
        waiting for
            the gradient norm of all, and check it afterwards (Qi et al., arXiv:2401.10241, section 4).
        fits: Whether it can run so many micro-batches on so many ranks.
        rule: What ``fits`` asks for, to follow 'needs'.
        pytorch: What ``torch.distributed.pipelining`` calls it, or None.
    """

    name: str
    order: Callable[[Request], Order]
    source: str
    chunks: tuple[int, int | None] = (1, 1)
    splits_backward: bool = False
    uses_times: bool = False
    copies: int = 1
    post_validates: bool = False
    fits: Callable[[Request], bool] = field(default=_always)
    rule: str = ""
    pytorch: str | None = None

    def takes_chunks(self, vpp: int) -> bool:
        """Tell whether it runs so many model chunks per rank."""
        fewest, most = self.chunks
        return fewest <= vpp and (most is None or vpp <= most)

    def chunk_rule(self) -> str:
        """Say how many model chunks per rank it runs.

        >>> Schedule(name="x", order=lambda _: (), source="", chunks=(2, None)).chunk_rule()
        'x runs 2 or more chunks per rank'
        """
        fewest, most = self.chunks
        if most is None:
            return f"{self.name} runs {fewest} or more chunks per rank"
        return f"{self.name} runs {fewest} chunk{'s' if fewest > 1 else ''} per rank"

    def nearest_microbatches(self, pp: int, vpp: int, wanted: int, group_size: int | None) -> list[int]:
        """Return the next smaller and the next larger fitting number of micro-batches, if there are any."""

        def fits(number: int) -> bool:
            return self.fits(Request(pp=pp, vpp=vpp, num_microbatches=number, group_size=group_size))

        below = next((number for number in range(wanted, 0, -1) if fits(number)), None)
        above = next((number for number in range(wanted + 1, wanted + _FARTHEST) if fits(number)), None)
        return [number for number in (below, above) if number is not None]
