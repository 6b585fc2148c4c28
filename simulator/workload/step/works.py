"""What the ops of one scenario's step run: the work of every slot.

A forward and a backward pass that run together are one program: the kernels of one hide the other's
communication. Kernels of both share the compute stream and alternate where either has to wait for a
collective (DualPipe, DeepSeek-V3, arXiv:2412.19437, figure 4: attention, dispatch, experts and combine of one
pass overlap with those of the other). Whether a collective is hidden is found by running the program.
"""

from __future__ import annotations

from itertools import groupby, pairwise, zip_longest
from typing import TYPE_CHECKING

from simulator.schedules.op_kind import OpKind
from simulator.workload.layers.output_layer import output_layer
from simulator.workload.program import (
    Block,
    BlockSequence,
    Program,
    ProgramBuilder,
    Stream,
    floating_point_operations,
)
from simulator.workload.step.end_works import (
    amax_works,
    offloaded_works,
    rank_end,
    rank_pair,
    stage_copy_work,
    tied_work,
)
from simulator.workload.step.messages import message
from simulator.workload.step.slots import COLLECTIVES, PASS_KINDS, RankSlot
from simulator.workload.step.stages import stage_works
from simulator.workload.step.units import stage_units, unit_copies
from simulator.workload.work import Collective, Elementwise, StepOverhead

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from simulator.workload.layers.layer_work import LayerWork
    from simulator.workload.parameters.stage_outline import StageOutline
    from simulator.workload.program import Work
    from simulator.workload.step.settings import EndSettings, StepSettings
    from simulator.workload.step.slots import PairSegments, Slots
    from simulator.workload.step.stages import StageKind
    from simulator.workload.step.structure import Arrangement, HoldingKind
    from simulator.workload.work import Leaf


def slot_works(settings: StepSettings, arrangement: Arrangement) -> dict[int, Work]:
    """Return the work of every slot that may be used.

    Args:
        settings: What the works are made of.
        arrangement: What the slots stand for.
    """
    slots, apart = arrangement.slots, settings.mesh.stride("pp")
    works: dict[int, Work] = {}
    for index, holding in enumerate(arrangement.holdings):
        first = index * slots.per_holding
        works.update((first + slot, work) for slot, work in _holding_works(settings, slots, holding))
    for index, rank in enumerate(arrangement.ranks):
        first = slots.first_rank + index * len(RankSlot)
        held = settings.stages.outlines(rank.stages)
        works.update(
            (first + slot, work) for slot, work in rank_works(settings.end, held, arrangement.end_ranks)
        )
        works.update((first + slot, work) for slot, work in output_works(settings))
    for index, pair in enumerate(slots.pairs):
        forward, backward = pair_works(settings, arrangement, pair)
        works[slots.first_pair + 2 * index] = forward
        works[slots.first_pair + 2 * index + 1] = backward
    for index, (source, target, receives) in enumerate(slots.messages):
        works[slots.first_message + index] = message(
            settings.message_bytes, apart, source, target, receives=receives
        )
    return works


def _holding_works(settings: StepSettings, slots: Slots, holding: HoldingKind) -> Iterator[tuple[int, Work]]:
    """Yield the works of a stage on a rank, with their slots in its block."""
    states, layers, kind = settings.states, settings.layers, settings.stages.kinds[holding.stage]
    units = stage_units(states, kind.outline)
    works = stage_works(kind, layers)
    bounds = [*units.starts, len(works)]
    of_bucket = [works, *(works[first:end] for first, end in pairwise(bounds))]
    splits = all(work.halves is not None for work in works)
    for kind_index, pass_kind in enumerate(PASS_KINDS if splits else PASS_KINDS[:2]):
        name = f"stage, {pass_kind.name.lower().replace('_', ' ')}"
        for bucket, layers_of_bucket in enumerate(of_bucket, start=-1):
            work = BlockSequence(name, counted(blocks_of(pass_kind, layers_of_bucket)))
            yield int(slots.of_pass(kind_index, bucket)), work
    for bucket, unit_index in enumerate(units.index):
        unit = units.units[unit_index]
        for sort in range(len(COLLECTIVES)):
            for index, collective in enumerate(unit.collectives[sort]):
                yield slots.of_collective(bucket, sort, index), collective
        if states.sharding.method == "zero3":
            copies = unit_copies(states, settings.copying, layers.options, unit.parameters)
            for index, copy in enumerate(copies):
                if copy is not None:
                    yield slots.of_copy(bucket, index), copy
    if holding.copies:
        pair = rank_pair(settings.mesh.stride("pp"), *holding.copies)
        yield slots.stage_copy, stage_copy_work(states, kind.outline, pair)


def rank_works(
    settings: EndSettings, stages: tuple[StageOutline, ...], end_ranks: tuple[int, int]
) -> Iterator[tuple[int, Leaf]]:
    """Yield what a rank does besides passes through its stages, with the slots in its block.

    Args:
        settings: What these works are made of.
        stages: The stages that it holds, in model order.
        end_ranks: Ranks of the first and of the last stage.
    """
    states = settings.states
    end = rank_end(states, stages)
    yield RankSlot.OPTIMIZER, end.update or Elementwise(name="optimizer", bytes_moved=0.0, exact=True)
    yield RankSlot.WEIGHT_CASTS, end.casts or Elementwise(name="weight casts", bytes_moved=0.0, exact=True)
    yield RankSlot.STEP_OVERHEAD, StepOverhead()
    if settings.gradient_norm is not None:
        yield RankSlot.GRADIENT_NORM, settings.gradient_norm
    if settings.ties_embeddings and end_ranks[0] != end_ranks[1]:
        pair = rank_pair(settings.apart, *end_ranks)
        yield RankSlot.TIED_EMBEDDINGS, tied_work(states.local.table, states.sizes.reduced, pair)
    if settings.amax_ranks:
        forward, backward = amax_works(settings.amax_ranks, sum(len(stage.layers) for stage in stages))
        yield RankSlot.AMAX_FORWARD, forward
        yield RankSlot.AMAX_BACKWARD, backward
    if states.offload.share:
        offloaded = offloaded_works(states, end.parameters)
        yield RankSlot.OFFLOAD_IN, offloaded.into
        yield RankSlot.OFFLOAD_UPDATE, offloaded.update
        yield RankSlot.OFFLOAD_OUT, offloaded.out


def output_works(settings: StepSettings) -> Iterator[tuple[int, Work]]:
    """Yield passes S and T of a divided output layer and the exchanges around them; exchanges are in fp32."""
    if settings.vocabulary == "none":
        return
    sizes = settings.layers.sizes
    layer = output_layer(settings.layers, settings.mesh.pp, settings.vocabulary)
    yield RankSlot.OUTPUT_FORWARD, layer.forward
    yield RankSlot.OUTPUT_BACKWARD, layer.backward
    group = settings.mesh.group("pp")
    # Of each token the largest logit, the sum of exponentials and the target's logit are summed up, in fp32.
    activation = 4.0 * sizes.divided_tokens * settings.layers.model.hidden_size
    summed = 3 * 4.0 * sizes.tokens + (activation if settings.vocabulary == "vocab-2" else 0.0)
    name = "output layer, all-reduce"
    broadcast = Collective(kind="broadcast", group=group, bytes=activation, name="output layer, broadcast")
    yield RankSlot.OUTPUT_BROADCAST, broadcast
    yield RankSlot.OUTPUT_SUM, Collective(kind="all_reduce", group=group, bytes=summed, name=name)
    yield RankSlot.OUTPUT_GRADIENT, Collective(kind="all_reduce", group=group, bytes=activation, name=name)


def _bucket_works(settings: StepSettings, kind: StageKind, bucket: int) -> tuple[LayerWork, ...]:
    """Return the layers of a bucket of a stage; bucket -1 stands for all of them."""
    works = stage_works(kind, settings.layers)
    if bucket < 0:
        return works
    starts = [*stage_units(settings.states, kind.outline).starts, len(works)]
    return works[starts[bucket] : starts[bucket + 1]]


def pair_works(
    settings: StepSettings, arrangement: Arrangement, pair: PairSegments
) -> tuple[BlockSequence, BlockSequence]:
    """Return the works of a forward and a backward segment that run together, each its share of the time."""
    forward, backward = (
        settings.stages.kinds[arrangement.holdings[holding].stage]
        for holding in (pair.forward_holding, pair.backward_holding)
    )
    there = blocks_of(OpKind.FORWARD, _bucket_works(settings, forward, pair.forward_bucket))
    back = blocks_of(OpKind.BACKWARD, _bucket_works(settings, backward, pair.backward_bucket))
    both = counted(_overlapped_blocks(there, back))
    forward_flops, backward_flops = (
        sum(floating_point_operations(block.program) for block in blocks) for blocks in (there, back)
    )
    total = forward_flops + backward_flops
    share = forward_flops / total if total else 0.5  # two embeddings
    name = "forward pass overlapped with backward pass"
    return BlockSequence(name, both, share), BlockSequence(name, both, 1.0 - share)


def _overlapped_blocks(forward: Sequence[Block], backward: Sequence[Block]) -> Iterator[Block]:
    """Yield the blocks of two passes that run together, pair by pair, and then what is left of the longer."""
    made: dict[tuple[Block, Block], Block] = {}
    for first, second in zip_longest(forward, backward):
        if first is None or second is None:
            yield first or second
            continue
        if (first, second) not in made:
            made[first, second] = overlapped_block(first, second)
        yield made[first, second]


def blocks_of(kind: OpKind, works: Sequence[LayerWork]) -> list[Block]:
    """Return the blocks of a pass over some layers in the order in which they run."""
    blocks = [block_of(kind, work) for work in works]
    return blocks if kind is OpKind.FORWARD else blocks[::-1]


def block_of(kind: OpKind, work: LayerWork) -> Block:
    """Return the block that a layer contributes to a pass.

    Raises:
        TypeError: The pass is half a backward pass, and the layer was built for whole ones.
    """
    if kind is OpKind.FORWARD:
        return work.forward
    if kind is OpKind.BACKWARD:
        return work.backward
    if work.halves is None:
        raise TypeError("the schedule splits a backward pass that was built whole")
    return work.halves.input if kind is OpKind.BACKWARD_INPUT else work.halves.weight


def counted(blocks: Iterable[Block]) -> tuple[tuple[Block, int], ...]:
    """Return blocks that run one after the other, each with how often it runs; empty ones are left out."""
    return tuple((block, len(list(same))) for block, same in groupby(blocks) if block.program.num_ops)


def overlapped_block(forward: Block, backward: Block) -> Block:
    """Return a block that runs a layer's forward pass beside another layer's backward pass."""
    program = overlapped_program(forward.program, backward.program)
    captured = forward.captured + backward.captured
    calls = forward.calls + backward.calls
    return Block(f"{forward.name} beside {backward.name}", program, captured, calls)


def overlapped_program(forward: Program, backward: Program) -> Program:
    """Return both programs as one, their parts between collectives taking turns, backward first."""
    builder = ProgramBuilder(rank_names=forward.rank_names)
    numbers: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for turn in zip_longest(_parts(backward), _parts(forward)):
        for program, known, part in zip((backward, forward), numbers, turn, strict=True):
            for op in part or ():
                known[op] = _copy(builder, program, op, known)
    return builder.build()


def _copy(builder: ProgramBuilder, program: Program, op: int, known: dict[int, int]) -> int:
    return builder.add(
        OpKind(program.kind[op]),
        int(program.rank[op]),
        Stream(program.stream[op]),
        program.works[program.work[op]],
        after=[known[other] for other in program.dependencies(op).tolist()],
    )


def _parts(program: Program) -> Sequence[list[int]]:
    """Cut a program where a kernel has to wait for a collective."""
    parts: list[list[int]] = [[]]
    stream = program.stream.tolist()
    for op in range(program.num_ops):
        waits = any(stream[other] != Stream.COMPUTE for other in program.dependencies(op).tolist())
        if stream[op] == Stream.COMPUTE and waits and parts[-1]:
            parts.append([])
        parts[-1].append(op)
    return parts
