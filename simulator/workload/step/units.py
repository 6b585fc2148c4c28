"""Gradient buckets of a stage, or FSDP's units, with the collectives and copies of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.scenario.remembered import remembered
from simulator.workload.layers.local_sizes import BYTES_PER_ELEMENT, wide_dtype
from simulator.workload.layers.lower import LayerOptions, forward_program
from simulator.workload.layers.operation import Pointwise
from simulator.workload.parameters.buckets import (
    bucket_collectives,
    bucket_parts,
    unit_parts,
    weight_tensors,
)
from simulator.workload.parameters.counts import reduced_bytes, weight_bytes
from simulator.workload.parameters.sharding import dense_sharing
from simulator.workload.program import Block, BlockSequence
from simulator.workload.step.inputs import BucketCounts
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.parameters.stage_outline import Outline
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


@remembered
def stage_units(scenario: Scenario, stage: Outline) -> StageUnits:
    """Divide a stage into the buckets or units of its data parallelism."""
    divide = unit_parts if scenario.parallelism.sharding == "zero3" else bucket_parts
    parts = divide(scenario, stage)
    keys = [(part.parameters, part.end - part.first) for part in parts]
    units: dict[tuple[object, int], Unit] = {}
    for key in dict.fromkeys(keys):
        reduces, sums, gathers = bucket_collectives(scenario, *key)
        units[key] = Unit(collectives=(gathers, reduces, sums), parameters=key[0].total)
    number = {key: index for index, key in enumerate(units)}
    index = tuple(number[key] for key in keys)
    made = tuple(units.values())
    return StageUnits(
        starts=tuple(part.first for part in parts),
        units=made,
        index=index,
        buckets=_runs([made[place].counts for place in index]),
        most=BucketCounts(*map(max, zip(*(unit.counts for unit in made), strict=True))),
    )


def _runs(counts: list[BucketCounts]) -> Buckets:
    """Write equal buckets behind each other as one run."""
    runs: list[tuple[BucketCounts, int]] = []
    for each in counts:
        if runs and runs[-1][0] == each:
            runs[-1] = (each, runs[-1][1] + 1)
        else:
            runs.append((each, 1))
    return tuple(runs)


def copies_made(scenario: Scenario) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return which of ``slots.COPIES`` a stack makes of a unit's gathered weights, and of its gradients."""
    software = scenario.software
    into_tensors, part_by_part = software.unshard_copies, software.gathers_tensor_by_tensor
    return (0,) * into_tensors + (1,) * part_by_part, (2,) * into_tensors + (3,) * part_by_part


def unit_copies(scenario: Scenario, parameters: float) -> tuple[Copy | None, ...]:
    """Return the copies of a unit with so many parameters, by ``slots.COPIES``.

    Weights are copied into tensors that kernels can read once they are gathered, gradients into one buffer
    before they are reduced.
    """
    software = scenario.software
    weights, gradients = weight_bytes(scenario) * parameters, reduced_bytes(scenario) * parameters
    copies: list[Copy | None] = [None] * 4
    if software.unshard_copies:
        made = BYTES_PER_ELEMENT[wide_dtype(scenario.training.precision)]
        copies[0] = Elementwise(name="unshard_copy", bytes_moved=2.0 * weights)
        size = parameters * (made + reduced_bytes(scenario))
        copies[2] = Elementwise(name="gradient_copy", bytes_moved=size)
    if software.gathers_tensor_by_tensor:
        copies[1] = _part_by_part(scenario, "gathered parts", 2.0 * weights)
        copies[3] = _part_by_part(scenario, "gradient parts", 2.0 * gradients)
    return tuple(copies)


def _part_by_part(scenario: Scenario, name: str, size: float) -> BlockSequence:
    """Copy every rank's part of every tensor of a unit by a kernel of its own."""
    count = weight_tensors(scenario) * dense_sharing(scenario).shard.size
    copies = Pointwise(forward=(Elementwise(name=name, bytes_moved=size, kernels=count),), backward=())
    return BlockSequence(name, ((Block(name, forward_program([copies], LayerOptions.of(scenario))), 1),))
