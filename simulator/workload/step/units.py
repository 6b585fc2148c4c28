"""Gradient buckets of a stage, or FSDP's units, with the collectives and copies of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.workload.layers.lower import forward_program
from simulator.workload.layers.operation import Pointwise
from simulator.workload.parameters.buckets import bucket_collectives
from simulator.workload.program import Block, BlockSequence
from simulator.workload.step.inputs import BucketCounts
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.workload.layers.lower import LayerOptions
    from simulator.workload.parameters.model_states import ModelStates
    from simulator.workload.parameters.stage_outline import StageOutline
    from simulator.workload.step.inputs import Buckets
    from simulator.workload.work import Collective

Copy = Elementwise | BlockSequence


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unit:
    """Consecutive layers of a stage whose weights are gathered, and whose gradients are reduced, together.

    Attributes:
        collectives: Those that gather its weights, reduce its gradients, and sum shards of these over
            replicas; see ``slots.COLLECTIVES``.
        parameters: Its parameters on one rank.
    """

    collectives: tuple[tuple[Collective, ...], tuple[Collective, ...], tuple[Collective, ...]]
    parameters: float

    @property
    def counts(self) -> BucketCounts:
        """How many collectives it has."""
        return BucketCounts(*map(len, self.collectives))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageUnits:
    """The buckets (or FSDP units) of a stage in model order.

    Attributes:
        starts: The work of the stage with which each begins.
        units: The different ones.
        index: Which of these each is.
        buckets: How many collectives they have, run by run.
        most: The most collectives that any has.
    """

    starts: tuple[int, ...]
    units: tuple[Unit, ...]
    index: tuple[int, ...]
    buckets: Buckets
    most: BucketCounts


@lru_cache(maxsize=16384)
def stage_units(states: ModelStates, stage: StageOutline) -> StageUnits:
    """Divide a stage into the buckets or units of its data parallelism."""
    spans = states.bucket_spans(stage)
    keys = [(span.parameters, span.end - span.first) for span in spans]
    units: dict[tuple[object, int], Unit] = {}
    for parameters, works in dict.fromkeys(keys):
        made = bucket_collectives(parameters, works, states.sharding, states.sizes, states.buckets)
        units[parameters, works] = Unit(
            collectives=(made.gathers, made.reduces, made.sums), parameters=parameters.total
        )
    index_of = {key: index for index, key in enumerate(units)}
    index = tuple(index_of[key] for key in keys)
    distinct = tuple(units.values())
    return StageUnits(
        starts=tuple(span.first for span in spans),
        units=distinct,
        index=index,
        buckets=_runs([distinct[unit].counts for unit in index]),
        most=BucketCounts(*map(max, zip(*(unit.counts for unit in distinct), strict=True))),
    )


def _runs(counts: list[BucketCounts]) -> Buckets:
    """Write equal buckets that follow each other as one run."""
    runs: list[tuple[BucketCounts, int]] = []
    for bucket in counts:
        if runs and runs[-1][0] == bucket:
            runs[-1] = (bucket, runs[-1][1] + 1)
        else:
            runs.append((bucket, 1))
    return tuple(runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCopying:
    """Copies that some stacks make of FSDP's units on the GPU.

    Attributes:
        whole_unit: Whether gathered weights are copied into a layer's tensors, and gradients into one buffer.
        shard_by_shard: Whether every rank's shard of every tensor is copied by a kernel of its own.
    """

    whole_unit: bool
    shard_by_shard: bool

    @property
    def before(self) -> tuple[int, ...]:
        """Copies of gathered weights, by ``slots.COPIES``."""
        return (0,) * self.whole_unit + (1,) * self.shard_by_shard

    @property
    def after(self) -> tuple[int, ...]:
        """Copies of gradients before they are reduced, likewise."""
        return (2,) * self.whole_unit + (3,) * self.shard_by_shard


def unit_copies(
    states: ModelStates, copying: UnitCopying, options: LayerOptions, parameters: float
) -> tuple[Copy | None, ...]:
    """Return the copies of a unit with so many parameters, by ``slots.COPIES``.

    Weights are copied into tensors that kernels can read once they are gathered, gradients into one buffer
    before they are reduced.
    """
    sizes = states.sizes
    weights, gradients = sizes.weight * parameters, sizes.reduced * parameters
    copies: list[Copy | None] = [None] * 4
    if copying.whole_unit:
        copies[0] = Elementwise(name="unshard_copy", bytes_moved=2.0 * weights)
        size = parameters * (sizes.made + sizes.reduced)
        copies[2] = Elementwise(name="gradient_copy", bytes_moved=size)
    if copying.shard_by_shard:
        count = states.buckets.tensors * states.sharding.dense.shard.size
        copies[1] = _shard_by_shard("gathered parts", 2.0 * weights, count, options)
        copies[3] = _shard_by_shard("gradient parts", 2.0 * gradients, count, options)
    return tuple(copies)


def _shard_by_shard(name: str, size: float, count: int, options: LayerOptions) -> BlockSequence:
    """Copy every rank's shard of every tensor of a unit by a kernel of its own."""
    copies = Pointwise(forward=(Elementwise(name=name, bytes_moved=size, kernels=count),), backward=())
    return BlockSequence(name, ((Block(name, forward_program([copies], options)), 1),))
