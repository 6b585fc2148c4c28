"""What a layout holds at least: a layout whose bound exceeds the GPU's memory does not fit.

For every rank, the terms of ``workload.parameters.model_states`` with the exact parameters of its stages, but

    - as many ranks as may share a copy do share it, and of sharded weights one layer is whole at a time,
    - of whole gradients that wait for their reduction to shards only those are counted that are known to
      exist together with the activations that are counted,

plus the activations that a rank certainly holds at one time (``pipelines.in_flight``), less the tensors that
wait in host memory. Each term is at most that of the simulation, and so is their sum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from simulator.explore.search.pipelines import Family, in_flight, step_values
from simulator.scenario.sharding import (
    SHARDS_GRADIENTS,
    reduces_every_microbatch,
    reshards_after_forward,
    sharding_of,
)
from simulator.workload.layers.local_sizes import local_sizes
from simulator.workload.parameters.bytes import ParameterBytes
from simulator.workload.parameters.model_states import (
    buffer_bytes,
    sums_gradients_locally,
    whole_weights_bytes,
)
from simulator.workload.parameters.optimizer_offload import StateOffload, held_state_bytes
from simulator.workload.parameters.sharding import shard_of

if TYPE_CHECKING:
    from simulator.explore.search.layer_classes import Floats
    from simulator.explore.search.layouts import Layouts
    from simulator.explore.search.space import Bools, Ints
    from simulator.explore.search.stage_parameters import Parameters
    from simulator.files.sections import ParallelismSection
    from simulator.scenario import Offload, Software
    from simulator.scenario.parallelism import Sharding
    from simulator.scenario.recompute import OptimizerOffload

ROUNDING = 1e-9
"""Sums of the same numbers in another order differ by less, relatively."""
_TURN = frozenset({"1f1b", "interleaved", "gpipe"})
"""Schedules whose first backward pass, on every rank, is one of its last stage and follows the warm-up."""


def memory_bound(layouts: Layouts, family: Family) -> Floats:
    """Return bytes that the fullest GPU of a layout holds at least, [pair, step options]."""
    example = layouts.example(int(family.shape[0]), int(family.layer[0]))
    held = dict(enumerate(family.held))
    if not held:  # ranks share stages: what the largest of these takes alone
        held = {stage: (stage,) for stage in range(family.pp * family.vpp)}
    activations = _Activations.of(layouts, family)
    parameters, shards = layouts.parameters(family), layouts.shard(family)
    given = layouts.variations.file.parallelism
    sizes = ParameterBytes.of(example.training, example.software, local_sizes(example).quantisation)
    common = _Common.of(sizes, example.training.offload, example.software, example.parallelism.schedule)
    most = {kind: np.zeros(len(family.shape)) for kind in kinds_of(layouts)}
    for rank, stages in _distinct(held).items():
        of_rank = _Rank.of(given, parameters, shards, list(stages), common, family.pp)
        working = activations.working[:, list(stages)].max(axis=1)
        index = rank if family.held else None
        added = {
            sharding: of_rank.gradients(sharding, activations, index, working)
            for sharding in dict.fromkeys(sharding for sharding, _ in most)
        }
        for (sharding, offload), before in most.items():
            total = of_rank.static(sharding, offload) + added[sharding] + common.framework
            most[sharding, offload] = np.maximum(before, total)
    return np.stack([most[kind] for kind in kinds_of(layouts)], axis=1) * (1 - ROUNDING)


def kinds_of(layouts: Layouts) -> list[tuple[str, OptimizerOffload]]:
    """Return the sharding and the optimizer's offloading of each way of running steps."""
    names = ("sharding", "offload_optimizer")
    rows = zip(*(step_values(layouts.space, name) for name in names), strict=True)
    return [(str(sharding), cast("OptimizerOffload", offload)) for sharding, offload in rows]


def _distinct(held: dict[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """Return the ranks that may be the fullest: the first, which hold most micro-batches, and the last."""
    ranks = sorted({*list(held)[:3], max(held)})
    return {rank: held[rank] for rank in ranks}


@dataclass(frozen=True, slots=True)
class _Activations:
    """What passes keep and take, for all pairs (of a shape and layer options) of a family.

    Attributes:
        per_microbatch: [pair, stage] Bytes that one micro-batch keeps.
        counts: [pair, stage] Micro-batches certainly held at the end of the warm-up.
        steady: [pair, rank] Passes in flight when all stages of a rank have begun backward passes.
        working: [pair, stage] Bytes that a backward pass takes on top.
        microbatches: [pair] Micro-batches of a step.
    """

    per_microbatch: Floats
    counts: Floats
    steady: Floats
    working: Floats
    microbatches: Floats

    @classmethod
    def of(cls, layouts: Layouts, family: Family) -> _Activations:
        # Pairs of one class have the same layers: what these hold is worked out once for each class.
        classes, class_of = layouts.classes(family, np.arange(len(family.shape)), with_topology=False)
        mix = family.profile
        held = np.stack([layouts.held(layer_class, mix.number) for layer_class in classes])
        microbatches = layouts.space.shapes.microbatches[family.shape]
        group = layouts.variations.file.parallelism.microbatch_group_size
        flights = [
            in_flight(family.schedule, family.pp, family.vpp, count, group) for count in microbatches.tolist()
        ]
        return cls(
            per_microbatch=mix.sums(held[:, 0])[class_of],
            counts=np.stack([flight.counts for flight in flights]),
            steady=np.stack([flight.steady for flight in flights]),
            working=mix.largest(held[:, 1])[class_of],
            microbatches=microbatches.astype(np.float64),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common:
    """What all layouts have in common.

    Attributes:
        sizes: Bytes of one parameter in each of its copies.
        offload: What is kept in host memory; where the optimizer's state lives is each layout's own.
        bucket_bytes: Bytes of a bucket of gradients.
        framework: Bytes of the framework.
        fragmented: Temporary memory with what the allocator loses of it, over that memory alone.
        reduces_every: Whether the stack reduces sharded gradients after each micro-batch without a pipeline.
        turns: Whether the first backward pass of every rank is one of its last stage, after the warm-up.
    """

    sizes: ParameterBytes
    offload: Offload
    bucket_bytes: float
    framework: float
    fragmented: float
    reduces_every: bool
    turns: bool

    @classmethod
    def of(cls, sizes: ParameterBytes, offload: Offload, software: Software, schedule: str) -> _Common:
        return cls(
            sizes=sizes,
            offload=offload,
            bucket_bytes=software.bucket_bytes,
            framework=software.framework_bytes,
            fragmented=1 + software.memory_fragmentation,
            reduces_every=software.reduce_every_microbatch,
            turns=schedule in _TURN,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rank:
    """One pipeline rank of all pairs of a family.

    Attributes:
        common: What all layouts have in common.
        given: What the scenario says of sharding.
        stages: Its stages.
        total: Its parameters, by pair.
        shared: Those of its shard.
        boundary: Those of the embedding and of the head.
        layer: Those of its largest layer.
        of_stage: Those of each of its stages.
        divides: Whether several ranks hold the same dense parameters.
        pp: Pipeline ranks.
    """

    common: _Common
    given: ParallelismSection
    stages: list[int]
    total: Floats
    shared: Floats
    boundary: Floats
    layer: Floats
    of_stage: Floats
    divides: Bools
    pp: int

    @classmethod
    def of(
        cls,
        given: ParallelismSection,
        parameters: Parameters,
        shards: tuple[Ints, Ints],
        stages: list[int],
        common: _Common,
        pp: int,
    ) -> _Rank:
        dense, experts = parameters.dense[:, stages].sum(axis=1), parameters.experts[:, stages].sum(axis=1)
        return cls(
            common=common,
            given=given,
            stages=stages,
            total=dense + experts,
            shared=shard_of(dense, experts, *shards),
            boundary=parameters.boundary[:, stages].sum(axis=1),
            layer=parameters.layer[:, stages].max(axis=1),
            of_stage=parameters.total[:, stages],
            divides=shards[0] > 1,
            pp=pp,
        )

    def static(self, word: str, offload: OptimizerOffload) -> Floats:
        """Return weights and optimizer state."""
        common, sizes, method = self.common, self.common.sizes, sharding_of(word)
        where = StateOffload.of(replace(common.offload, optimizer=offload), common.bucket_bytes)
        state = held_state_bytes(self.total if method == "none" else self.shared, sizes, where)
        if method != "zero3":
            return whole_weights_bytes(self.total, self.boundary, sizes) + state
        reshards = reshards_after_forward(word, self.pp, self.given.reshard_after_forward)
        gathered = self.boundary + self.layer if reshards else self.total
        return gathered * sizes.weight + state

    def buffers(self, method: Sharding) -> Floats:
        """Return gradients on their way, where there is anyone to send them to."""
        size = buffer_bytes(method, self.layer, self.common.sizes, self.common.bucket_bytes)
        return np.where(self.divides, size, 0.0)

    def gradients(self, word: str, activations: _Activations, rank: int | None, working: Floats) -> Floats:
        """Return gradients, and what comes and goes: activations, buffers, what a backward pass takes.

        Gradients that are summed up whole before they become shards exist from a stage's first backward pass
        to its last one: that of the rank's last stage when the warm-up ends, and those of all in the steady
        phase, where the smallest stage's activations are the bound on all.
        """
        method, gradient_bytes = sharding_of(word), self.common.sizes.gradient
        # [pair] bytes: activations of the warm-up; buffers and working memory, with fragmentation of all
        kept = (activations.per_microbatch * activations.counts)[:, self.stages].sum(axis=1)
        temporary = self.buffers(method) + working
        temporary = temporary + (kept + temporary) * (self.common.fragmented - 1)
        if method not in SHARDS_GRADIENTS:
            total: Floats = kept + self.total * gradient_bytes + temporary
            return total
        given, default = self.given.reduce_every_microbatch, self.common.reduces_every
        every = reduces_every_microbatch(word, self.pp, given, usual=default)
        sums = sums_gradients_locally(activations.microbatches, reduces_every=every)
        steady = np.zeros_like(kept) if rank is None else activations.steady[:, rank]
        least = activations.per_microbatch[:, self.stages].min(axis=1)
        in_steady_phase = np.where(steady > 0, steady * least + self.total * gradient_bytes, 0.0)
        after_warm_up = kept + (self.of_stage[:, -1] * gradient_bytes if self.common.turns else 0.0)
        with_gradients = np.where(sums, np.maximum(after_warm_up, in_steady_phase), kept)
        held: Floats = self.shared * gradient_bytes + with_gradients + temporary
        return held
