"""Steps of one structure: the same ops that wait for each other in the same way, whatever they cost.

A template is a step of stages and buckets that say nothing but which they are, laid out by the code that
lays out every step. ``slot`` tells for each op which cost is its own; a table of costs by slot then is one
configuration. Stages with fewer buckets than others run empty ones, which take no time and change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from simulator.durations.data_parallel import COPIES, EACH, WHICH, Counts
from simulator.durations.stage_passes import PASSES
from simulator.durations.step_end import SINGLES, Pairs
from simulator.engines.graph import Graph
from simulator.ragged import ranges
from simulator.schedules.op_kind import OpKind
from simulator.workload.layers.layer_work import Halves, LayerWork
from simulator.workload.pipeline import Pipeline
from simulator.workload.program import Block, BlockSequence, ProgramBuilder, Stream
from simulator.workload.step.build import lay_out
from simulator.workload.step.data_parallel import MAKES_GRADIENTS, Bucket
from simulator.workload.step.stages import Stage
from simulator.workload.work import Collective, Elementwise, Group, StepOverhead, Transfer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.workload.program import Ints, Program
    from simulator.workload.step.build import Step
    from simulator.workload.step.stages import StageKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """Where the costs of a template's parts are found.

    First come, stage by stage, passes (by kind, whole or by bucket), collectives (by bucket, ``WHICH`` and
    number) and copies (by bucket and ``COPIES``); then messages; then by rank the optimizer and casts; then
    what there is one of.

    Attributes:
        stages: Pipeline stages.
        parts: Buckets of the stage with most.
        ranks: Pipeline ranks.
        messages: Messages between ranks.
        collectives: First slot of a stage's collectives, counted from its own first slot.
        copies: First slot of its copies, likewise.
        per_stage: Slots of one stage.
        ends: First slot of the ranks' optimizer steps.
        singles: First slot of the gradient norm, tied embeddings and step overhead.
        size: All slots.
    """

    stages: int
    parts: int
    ranks: int
    messages: Pairs
    collectives: int
    copies: int
    per_stage: int
    ends: int
    singles: int
    size: int

    @classmethod
    def of(cls, stages: int, parts: int, ranks: int, messages: Pairs) -> Slots:
        """Lay out the slots of a template."""
        collectives = len(PASSES) * (1 + parts)
        copies = collectives + len(WHICH) * EACH * parts
        per_stage = copies + len(COPIES) * parts
        ends = stages * per_stage + len(messages.pairs)
        singles = ends + 2 * ranks
        return cls(
            stages=stages,
            parts=parts,
            ranks=ranks,
            messages=messages,
            collectives=collectives,
            copies=copies,
            per_stage=per_stage,
            ends=ends,
            singles=singles,
            size=singles + len(SINGLES),
        )

    def of_pass(self, kind: int, bucket: int) -> int:
        """Return the slot of the first stage's pass over a bucket; -1 stands for the whole stage."""
        return kind * (1 + self.parts) + 1 + bucket

    def of_collective(self, which: int, number: int, bucket: int) -> int:
        """Return the slot of a collective of the first stage's bucket."""
        return self.collectives + (bucket * len(WHICH) + which) * EACH + number

    def of_copy(self, which: Ints, stage: Ints, bucket: Ints) -> Ints:
        """Return the slots of buckets' copies."""
        return stage * self.per_stage + self.copies + bucket * len(COPIES) + which


_MOST_PARTS = 100_000
"""Parts of stages that are kept for further templates."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Template:
    """A structure, with what its ops have in common with those of others.

    Attributes:
        program: The ops.
        last: Ops that nothing waits for.
        cuts: Whether passes may be cut into buckets.
        slots: Where costs are found.
        slot: Slot of each op.
        held: Stages of each rank.
        pass_start: Passes ``passes[pass_start[r]:pass_start[r + 1]]`` are those of rank ``r`` in order.
        passes: See ``pass_start``.
        opens: Stage whose first gradients of the rank each of ``passes`` makes, or -1.
        closes: Stage whose last gradients it makes, or -1.
        beside_start: As ``pass_start``, for collectives of each rank and data-parallel stream.
        beside: See ``beside_start``.
    """

    program: Program
    last: Ints
    cuts: bool
    slots: Slots
    slot: Ints
    held: tuple[tuple[int, ...], ...]
    pass_start: Ints
    passes: Ints
    opens: Ints
    closes: Ints
    beside_start: Ints
    beside: Ints


def make_template(
    scenario: Scenario, kinds: Sequence[StageKind], buckets: Sequence[Sequence[Counts]]
) -> Template:
    """Lay out a template.

    Args:
        scenario: One with this structure.
        kinds: Kinds of its stages.
        buckets: For each stage, how many of each of ``WHICH`` each bucket has.
    """
    stages = tuple(
        Stage(layers=tuple(range(len(kind.places))), works=_works(max(1, len(mine))), kind=kind)
        for kind, mine in zip(kinds, buckets, strict=True)
    )
    parts = [[_bucket(part, len(mine), counts) for part, counts in enumerate(mine)] for mine in buckets]
    step = lay_out(scenario, Pipeline.of(scenario).order(), stages, parts)
    program = step.program
    most = max(1, *map(len, buckets))
    slots = Slots.of(len(kinds), most, program.num_ranks, _pairs(program))
    pass_start, passes = _in_streams(program, (Stream.COMPUTE,))
    is_pass = program.kind[passes] <= OpKind.BACKWARD_WEIGHT
    kept = np.concatenate(([0], np.cumsum(is_pass)))
    pass_start, passes = kept[pass_start], passes[is_pass]
    opens, closes = _gradient_edges(program, passes)
    beside_start, beside = _in_streams(program, (Stream.DP_GATHER, Stream.DP_REDUCE))
    return Template(
        program=program,
        last=np.flatnonzero(np.diff(Graph.of(program).successor_start) == 0),
        cuts=scenario.parallelism.sharding == "zero3" or any(any(each) for mine in buckets for each in mine),
        slots=slots,
        slot=_slots_of(step, slots),
        held=step.held,
        pass_start=pass_start,
        passes=passes,
        opens=opens,
        closes=closes,
        beside_start=beside_start,
        beside=beside,
    )


@lru_cache(maxsize=1)
def _nothing() -> Program:
    """Return a layer's program that stands for any."""
    builder = ProgramBuilder(rank_names=("layer",))
    builder.add(OpKind.KERNEL, 0, Stream.COMPUTE, Elementwise(name="any", bytes_moved=0.0))
    return builder.build()


@lru_cache(maxsize=_MOST_PARTS)
def _works(parts: int) -> tuple[LayerWork, ...]:
    return tuple(_work(part, parts) for part in range(parts))


@lru_cache(maxsize=_MOST_PARTS)
def _work(part: int, parts: int) -> LayerWork:
    """Return a bucket's work, named by its number and that of all buckets."""
    block = Block(f"{part} {parts}", _nothing())
    halves = Halves(input=block, weight=block, kept_bytes=0.0)
    return LayerWork(forward=block, backward=block, saved_bytes=0.0, working_bytes=0.0, halves=halves)


@lru_cache(maxsize=_MOST_PARTS)
def _bucket(number: int, parts: int, counts: Counts) -> Bucket:
    gathers, reduces, sums = (
        tuple(_collective(f"{which} {place} {number}") for place in range(count))
        for which, count in enumerate(counts)
    )
    return Bucket(works=(_work(number, parts),), parameters=0.0, reduces=reduces, sums=sums, gathers=gathers)


def _collective(name: str) -> Collective:
    group = Group(axis="dp", size=2, stride=1)
    return Collective(kind="all_reduce", group=group, bytes=1.0, name=f"bucket {name}")


def _pairs(program: Program) -> Pairs:
    messages = (work for work in program.works if isinstance(work, Transfer))
    return Pairs.of(tuple((work.source, work.target, work.receives) for work in messages))


def _slots_of(step: Step, slots: Slots) -> Ints:
    """Return the slot of each op."""
    program = step.program
    kind_of = np.zeros(len(program.works), dtype=np.int64)
    kind_of[program.work] = program.kind
    first = slots.ends - len(slots.messages.pairs)
    messages = {pair: first + number for number, pair in enumerate(slots.messages.pairs)}
    of_work, by_rank, by_stage, copy, bucket_of = np.zeros((5, len(program.works)), dtype=np.int64)
    for index, work in enumerate(program.works):
        match work:
            case Elementwise() | BlockSequence() if work.name in COPIES:
                copy[index] = 1 + COPIES.index(work.name)
            case BlockSequence():
                bucket_of[index], parts = min(tuple(map(int, block.name.split())) for block, _ in work.blocks)
                bucket = -1 if len(work.blocks) == parts else int(bucket_of[index])
                of_work[index] = slots.of_pass(int(kind_of[index]), bucket)
                by_stage[index] = 1
            case Transfer():
                of_work[index] = messages[work.source, work.target, work.receives]
            case Collective() if work.name.startswith("bucket "):
                of_work[index] = slots.of_collective(*map(int, work.name.split()[1:]))
                by_stage[index] = 1
            case Elementwise():
                of_work[index] = slots.ends + slots.ranks * (work.name != "optimizer")
                by_rank[index] = 1
            case Collective() | StepOverhead():
                of_work[index] = slots.singles + SINGLES.index(work.name)
            case _:
                raise TypeError(f"no slot for {work}")
    slot: Ints = of_work[program.work] + by_rank[program.work] * program.rank
    slot += by_stage[program.work] * program.stage * slots.per_stage
    which = copy[program.work] - 1
    copies = np.flatnonzero(which >= 0)
    if copies.size:
        owner = _passes_beside(program, copies, which[copies])
        slot[copies] = slots.of_copy(which[copies], program.stage[owner], bucket_of[program.work[owner]])
    return slot


def _passes_beside(program: Program, copies: Ints, which: Ints) -> Ints:
    """Return the pass that each copy is for: the next one for weights, the last one for gradients."""
    passes = np.flatnonzero(program.kind <= OpKind.BACKWARD_WEIGHT)
    is_next = which < COPIES.index("gradient_copy")
    return passes[np.searchsorted(passes, copies) - 1 + is_next]


def _in_streams(program: Program, streams: tuple[Stream, ...]) -> tuple[Ints, Ints]:
    """Return where the ops of each rank and each of some streams begin in a list, and the list."""
    order, start = program.in_queues()
    queues = (np.arange(program.num_ranks)[:, None] * len(Stream) + np.array(streams)).reshape(-1)
    counts = start[queues + 1] - start[queues]
    return np.concatenate(([0], np.cumsum(counts))), order[ranges(start[queues], counts)]


def _gradient_edges(program: Program, passes: Ints) -> tuple[Ints, Ints]:
    """Return for each pass the stage whose gradients begin with it on its rank, and that whose end."""
    makes = np.flatnonzero(np.logical_or.reduce([program.kind[passes] == kind for kind in MAKES_GRADIENTS]))
    ops = passes[makes]
    stages = int(program.stage.max(initial=0)) + 1
    code = program.rank[ops] * stages + program.stage[ops]
    edges = np.full((2, len(passes)), -1)
    for row, places in zip(edges, (np.arange(len(ops))[::-1], np.arange(len(ops))), strict=True):
        edge = np.full(program.num_ranks * stages, -1)
        edge[code[places]] = makes[places]  # the last one assigned stays
        found = edge[edge >= 0]
        row[found] = program.stage[passes[found]]
    return edges[0], edges[1]


def forget() -> None:
    """Drop the parts of stages that are kept."""
    _work.cache_clear()
    _bucket.cache_clear()
