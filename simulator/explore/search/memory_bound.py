"""What a layout holds at least: a layout whose bound exceeds the GPU's memory does not fit.

For every rank, the terms of ``workload.static_memory`` with the exact parameters of its stages, but

    - as many ranks as may share a copy do share it, and of sharded weights one layer is whole at a time,
    - of whole gradients that wait for their reduction to shards only those are counted that are known to
      exist together with the activations that are counted,

plus the activations that a rank certainly holds at one time (``families.in_flight``), less the tensors that
wait in host memory. Each term is at most that of the simulation, and so is their sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.explore.search.families import Family, in_flight, step_values
from simulator.files.sharding_rules import FSDP
from simulator.workload.layers.local_sizes import BYTES_PER_ELEMENT, wide_dtype
from simulator.workload.parameters.bytes import layer_weight_bytes, state_bytes
from simulator.workload.parameters.counts import gradient_bytes, reduced_bytes, weight_bytes

if TYPE_CHECKING:
    from simulator.explore.search.classes import Floats
    from simulator.explore.search.layouts import Layouts
    from simulator.explore.search.parameters import Parameters
    from simulator.explore.search.space import Bools, Ints
    from simulator.files.sections import ParallelismSection
    from simulator.scenario import Scenario

ROUNDING = 1e-9
"""Sums of the same numbers in another order differ by less, relatively."""
_TURN = frozenset({"1f1b", "interleaved", "gpipe"})
"""Schedules whose first backward pass, on every rank, is one of its last stage and follows the warm-up."""
_MAX_BUCKETS = 64
"""As in ``workload.optimizer_offload``."""


def memory_bound(layouts: Layouts, family: Family) -> Floats:
    """Return bytes that the fullest GPU of a layout holds at least, by pair and way of running steps."""
    example = layouts.example(int(family.shape[0]), int(family.layer[0]))
    held = dict(enumerate(family.held))
    if not held:  # ranks share stages: what the largest of these takes alone
        held = {number: (number,) for number in range(family.pp * family.vpp)}
    activations = _Activations.of(layouts, family)
    parameters, shards = layouts.parameters(family), layouts.shard(family)
    given = layouts.variations.file.parallelism
    each = _Each.of(example)
    most = {kind: np.zeros(len(family.shape)) for kind in kinds_of(layouts)}
    for rank, stages in _distinct(held).items():
        mine = _Rank.of(given, parameters, shards, list(stages), each, has_pipeline=family.pp > 1)
        working = activations.working[:, list(stages)].max(axis=1)
        which = rank if family.held else None
        added = {
            sharding: mine.gradients(sharding, activations, which, working)
            for sharding in dict.fromkeys(sharding for sharding, _ in most)
        }
        for (sharding, offload), before in most.items():
            total = mine.static(sharding, offload) + added[sharding] + each.framework
            most[sharding, offload] = np.maximum(before, total)
    return np.stack([most[kind] for kind in kinds_of(layouts)], axis=1) * (1 - ROUNDING)


def kinds_of(layouts: Layouts) -> list[tuple[str, str]]:
    """Return the sharding and the optimizer's offloading of each way of running steps."""
    names = ("sharding", "offload_optimizer")
    rows = zip(*(step_values(layouts.space, name) for name in names), strict=True)
    return [(str(sharding), str(offload)) for sharding, offload in rows]


def _distinct(held: dict[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """Return the ranks worth a look: the first ones, which hold most micro-batches, and the last."""
    ranks = sorted({*list(held)[:3], max(held)})
    return {rank: held[rank] for rank in ranks}


@dataclass(frozen=True, slots=True)
class _Activations:
    """What passes keep and take, by pair.

    Attributes:
        each: Bytes that one micro-batch keeps, by stage.
        counts: Micro-batches certainly held at the end of the warm-up, by stage.
        steady: Passes in flight when all stages of a rank have begun backward passes, by rank.
        working: What a backward pass takes on top, by stage.
        microbatches: Micro-batches of a step.
    """

    each: Floats
    counts: Floats
    steady: Floats
    working: Floats
    microbatches: Floats

    @classmethod
    def of(cls, layouts: Layouts, family: Family) -> _Activations:
        classes, of = layouts.classes(family, np.arange(len(family.shape)), placed=False)
        profile = family.profile
        held = np.stack([layouts.held(each, profile.number) for each in classes])
        numbers = layouts.space.shapes.microbatches[family.shape]
        group = layouts.variations.file.parallelism.microbatch_group_size
        flights = [
            in_flight(family.schedule, family.pp, family.vpp, number, group) for number in numbers.tolist()
        ]
        return cls(
            each=profile.sums(held[:, 0])[of],
            counts=np.stack([flight.counts for flight in flights]),
            steady=np.stack([flight.steady for flight in flights]),
            working=profile.largest(held[:, 1])[of],
            microbatches=numbers.astype(np.float64),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Each:
    """What all layouts have in common.

    Attributes:
        weight: Bytes of a weight as it is gathered.
        low: Further bytes of a weight of a layer, in low precision.
        gradient: Bytes of an accumulated gradient.
        travels: Bytes of a gradient as made and as it travels.
        state: Bytes of one parameter's optimizer state.
        share: Share of it in host memory, where it is offloaded.
        bucket: Bytes of a bucket of gradients.
        framework: Bytes of the framework.
        lost: What comes and goes, with what the allocator loses of it, over that alone.
        reduces_every: Whether the stack reduces sharded gradients after each micro-batch without a pipeline.
        turns: Whether the first backward pass of every rank is one of its last stage, after the warm-up.
    """

    weight: float
    low: float
    gradient: float
    travels: float
    state: float
    share: float
    bucket: float
    framework: float
    lost: float
    reduces_every: bool
    turns: bool

    @classmethod
    def of(cls, example: Scenario) -> _Each:
        weight, software = weight_bytes(example), example.software
        return cls(
            weight=weight,
            low=layer_weight_bytes(example) - weight,
            gradient=gradient_bytes(example),
            travels=BYTES_PER_ELEMENT[wide_dtype(example.training.precision)] + reduced_bytes(example),
            state=state_bytes(example),
            share=example.training.offload.optimizer_fraction,
            bucket=software.bucket_bytes,
            framework=software.framework_bytes,
            lost=1 + software.memory_fragmentation,
            reduces_every=software.reduce_every_microbatch,
            turns=example.parallelism.schedule in _TURN,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rank:
    """One pipeline rank of all pairs of a family.

    Attributes:
        each: What all layouts have in common.
        given: What the scenario says of sharding.
        stages: Its stages.
        total: Its parameters, by pair.
        shared: Those of its shard.
        boundary: Those of the embedding and of the head.
        layer: Those of its largest layer.
        of_stage: Those of each of its stages.
        divides: Whether several ranks hold the same dense parameters.
        has_pipeline: Whether there are other ranks.
    """

    each: _Each
    given: ParallelismSection
    stages: list[int]
    total: Floats
    shared: Floats
    boundary: Floats
    layer: Floats
    of_stage: Floats
    divides: Bools
    has_pipeline: bool

    @classmethod
    def of(
        cls,
        given: ParallelismSection,
        parameters: Parameters,
        shards: tuple[Ints, Ints],
        stages: list[int],
        each: _Each,
        *,
        has_pipeline: bool,
    ) -> _Rank:
        dense, experts = parameters.dense[:, stages].sum(axis=1), parameters.experts[:, stages].sum(axis=1)
        return cls(
            each=each,
            given=given,
            stages=stages,
            total=dense + experts,
            shared=dense / shards[0] + experts / shards[1],
            boundary=parameters.boundary[:, stages].sum(axis=1),
            layer=parameters.layer[:, stages].max(axis=1),
            of_stage=parameters.total[:, stages],
            divides=shards[0] > 1,
            has_pipeline=has_pipeline,
        )

    def static(self, sharding: str, offload: str) -> Floats:
        """Return weights and optimizer state."""
        each, plain = self.each, FSDP.get(sharding, sharding)
        state = _state(each, self.total if plain == "none" else self.shared, offload)
        if plain == "zero3":
            frees = self.given.reshard_after_forward
            if frees is None:
                frees = sharding != "shard_grad_op" and not self.has_pipeline
            weights = (self.boundary + self.layer if frees else self.total) * each.weight
        else:
            weights = self.total * each.weight + (self.total - self.boundary) * each.low
        found: Floats = weights + state
        return found

    def buffers(self, plain: str) -> Floats:
        """Return gradients on their way: a bucket, or a layer's as made and as they travel."""
        size: Floats = self.layer * self.each.travels
        if plain != "zero3":
            size = np.full_like(size, 0.0 if plain == "none" else self.each.bucket)
        return np.where(self.divides, size, 0.0)

    def gradients(
        self, sharding: str, activations: _Activations, rank: int | None, working: Floats
    ) -> Floats:
        """Return gradients, and what comes and goes: activations, buffers, what a backward pass takes.

        Gradients that are summed up whole before they become shards exist from a stage's first backward pass
        to its last one: that of the rank's last stage when the warm-up ends, and those of all in the steady
        phase, where the smallest stage's activations are the bound on all.
        """
        plain, each = FSDP.get(sharding, sharding), self.each.gradient
        kept = (activations.each * activations.counts)[:, self.stages].sum(axis=1)
        beside = self.buffers(plain) + working
        beside = beside + (kept + beside) * (self.each.lost - 1)
        if plain not in {"zero2", "zero3"}:
            whole: Floats = kept + self.total * each + beside
            return whole
        every = self.given.reduce_every_microbatch
        if every is None:
            every = not self.has_pipeline and self.each.reduces_every
        sums = (activations.microbatches > 1) & (not every)
        steady = np.zeros_like(kept) if rank is None else activations.steady[:, rank]
        least = activations.each[:, self.stages].min(axis=1)
        running = np.where(steady > 0, steady * least + self.total * each, 0.0)
        turning = kept + (self.of_stage[:, -1] * each if self.each.turns else 0.0)
        found: Floats = self.shared * each + np.where(sums, np.maximum(turning, running), kept) + beside
        return found


def _state(each: _Each, parameters: Floats, offload: str) -> Floats:
    """Return the optimizer state on the GPU: ``workload.optimizer_offload.held_state_bytes`` by columns."""
    everything = parameters * each.state
    if offload == "none":
        return everything
    size = parameters * each.share * each.gradient
    buckets = np.clip(np.ceil(size / each.bucket), 1, _MAX_BUCKETS)
    away = everything * each.share
    held: Floats = everything - away + np.minimum(away, 2 * away / buckets)
    return held
