"""What a step's bound counts of data parallelism, and its end: see ``time_bound``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from simulator.explore.search.pipelines import bounded_ranks
from simulator.explore.search.rules import switched_on
from simulator.explore.search.space import STEP_AXES
from simulator.scenario.sharding import (
    keeps_weights_over_step,
    reduces_every_microbatch,
    reshards_after_forward,
    sharding_of,
)
from simulator.workload.layers.local_sizes import local_sizes
from simulator.workload.parameters.bytes import ParameterBytes
from simulator.workload.parameters.optimizer_offload import OffloadTraffic, StateOffload
from simulator.workload.parameters.sharding import shard_of
from simulator.workload.step.end_works import update_traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.explore.search.bound_costs import Prices
    from simulator.explore.search.layer_classes import Floats
    from simulator.explore.search.layouts import Layouts
    from simulator.explore.search.pipeline_paths import Chains
    from simulator.explore.search.pipelines import Family
    from simulator.explore.search.space import Ints
    from simulator.files.sections import ParallelismSection
    from simulator.scenario import Scenario
    from simulator.scenario.recompute import OptimizerOffload
    from simulator.workload.work import CollectiveKind


@dataclass(frozen=True, slots=True)
class StepOptions:
    """One way of running steps.

    Attributes:
        sharding: What data-parallel ranks share.
        grad_reduce: Whether gradients are reduced beside backward passes.
        param_gather: Whether weights are gathered beside forward passes.
        p2p: Whether messages between stages run beside passes.
        offload: Where the optimizer's state lives.
    """

    sharding: str
    grad_reduce: bool
    param_gather: bool
    p2p: bool
    offload: OptimizerOffload


def step_options_of(layouts: Layouts) -> list[StepOptions]:
    """Return the ways of running steps of a space, in its order."""
    values, usual = layouts.space.values, layouts.variations.software.overlap
    columns: list[list[object]] = []
    for name in STEP_AXES:
        habit = getattr(usual, name.removeprefix("overlap_"), None)
        chosen = (
            [str(value) for value in values[name]]
            if habit is None
            else switched_on(values, name, habit).tolist()
        )
        columns.append(chosen)
    return [
        StepOptions(*(column[index] for column, index in zip(columns, step, strict=True)))
        for step in layouts.space.steps.tolist()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Collectives and optimizer of a family's pairs.

    Attributes:
        prices: Prices on the hardware.
        example: One of the layouts, for what they have in common.
        sizes: Bytes of one parameter in each of its copies.
        size: Ranks that hold the same dense weights, by pair.
        stride: Distance between them.
        dense: Dense parameters by pair and rank.
        total: All parameters by pair and rank.
        shared: Those of a rank's shard.
        boundary: Those of the embedding and of the head among the dense ones.
        layers: The other dense ones.
        reduction: Traffic around the reduction of gradients per parameter, by pair.
        bucket: Those of the first stage's first bucket at least: a full bucket, or all of the stage. With
            experts, whose gradients are in it too, not counted.
        embedding: Those of the embedding; zero where the head is on its stage.
        microbatches: Micro-batches of a step, by pair.
        given: What the scenario says of sharding.
        distinct: Pairs with distinct groups and parameters.
        distinct_index: Which of these each pair is like.
        seconds_of: Seconds of collectives that were asked for.
        paths: Seconds up to the gradient norm that were asked for.
        updates: Seconds of optimizers that were asked for, by rank.
        splits: Whether a rank's last pass may be a weight gradient.
        counts: Whether collectives count; not where only some ranks share a copy.
    """

    prices: Prices
    example: Scenario
    sizes: ParameterBytes
    size: Ints
    stride: Ints
    dense: Floats
    total: Floats
    shared: Floats
    boundary: Floats
    layers: Floats
    reduction: Floats
    bucket: Floats
    embedding: Floats
    microbatches: Floats
    given: ParallelismSection
    distinct: Ints
    distinct_index: Ints
    splits: bool
    counts: bool
    seconds_of: dict[tuple[str, str, float], Floats] = field(default_factory=dict)
    paths: dict[tuple[str, bool, bool, bool], Floats] = field(default_factory=dict)
    updates: dict[tuple[bool, str], Floats] = field(default_factory=dict)

    @classmethod
    def of(cls, layouts: Layouts, prices: Prices, family: Family, pairs: Ints, example: Scenario) -> Traffic:
        """Look up parameters and groups."""
        parameters = layouts.parameters(family)
        shard, expert_shard = (found[pairs] for found in layouts.shard(family))
        dense, experts, boundary = (
            np.stack(
                [of[pairs][:, list(family.held[rank])].sum(axis=1) for rank in bounded_ranks(family)], axis=1
            )
            for of in (parameters.dense, parameters.experts, parameters.boundary)
        )
        first, embedding = parameters.dense[pairs, 0], parameters.boundary[pairs, 0]
        sizes = ParameterBytes.of(example.training, example.software, local_sizes(example).quantisation)
        full = example.software.bucket_bytes / sizes.gradient
        if example.model.experts is not None:
            full = 0.0
        if len(family.stage_layers) == 1:
            embedding = np.zeros_like(embedding)
        stride = layouts.strides(family).dp[pairs]
        groups = np.stack([shard, stride, dense[:, 0], boundary[:, 0]], axis=1)
        _, distinct, distinct_index = np.unique(groups, axis=0, return_index=True, return_inverse=True)
        given = layouts.variations.file.parallelism
        has_replicas = layouts.space.shapes.dp[family.shape[pairs]] > 1
        return cls(
            prices=prices,
            example=example,
            sizes=sizes,
            size=shard,
            stride=stride,
            dense=dense,
            total=dense + experts,
            shared=shard_of(dense, experts, shard[:, None], expert_shard[:, None]),
            boundary=boundary,
            layers=dense - boundary,
            reduction=np.where(has_replicas, example.software.reduction_bytes_per_parameter, 0.0)[:, None],
            bucket=np.minimum(first, full)[:, None],
            embedding=embedding[:, None],
            microbatches=layouts.space.shapes.microbatches[family.shape[pairs]].astype(np.float64),
            given=given,
            distinct=distinct,
            distinct_index=distinct_index.reshape(-1),
            splits=family.splits,
            counts=given.shard_size is None and given.shard_replicas is None,
        )

    def step_s(self, chains: Mapping[bool, Chains], way: StepOptions) -> Floats:
        """Return the seconds of a step without its overhead, by pair."""
        path = (way.sharding, way.grad_reduce, way.param_gather, way.p2p)
        if path not in self.paths:
            self.paths[path] = self._path_s(chains[not way.p2p], way)
        update = (way.sharding == "none", way.offload)
        if update not in self.updates:
            self.updates[update] = self._update_s(way)
        chain = chains[not way.p2p]
        if self.example.training.post_validation:  # ranks start apart and end apart
            alone: Floats = (chain.busy + self.updates[update]).max(axis=1)
            return alone
        total: Floats = self.paths[path] + self._norm_s() + self.updates[update].max(axis=1)
        return total

    def _path_s(self, chain: Chains, way: StepOptions) -> Floats:
        """Return the seconds up to the gradient norm."""
        sharding = sharding_of(way.sharding)
        counts = self.counts and way.sharding not in {"hybrid", "hsdp"}
        kind: CollectiveKind = "all_reduce" if sharding == "none" else "reduce_scatter"
        sent, got = self.sizes.reduced * counts, self.sizes.gathered * counts
        pp, given = self.example.parallelism.pp, self.given.reduce_every_microbatch
        usual = self.example.software.reduce_every_microbatch
        every = reduces_every_microbatch(way.sharding, pp, given, usual=usual)
        reduced = self._seconds(kind, "dense", sent)
        reduced = reduced * (self.microbatches[:, None] if every else 1.0)
        # gathered: gathers of a rank before its first pass; streams: all collectives of its stream in a row
        gathered, streams, unit = np.zeros_like(reduced), reduced, "bucket"
        gathers_first = np.zeros(len(reduced))
        if sharding == "zero3":
            unit = "embedding"
            layers, ends = self._gathers(way.sharding, every=every)
            streams = streams + layers * self._seconds("all_gather", "layers", got)
            streams = streams + ends * self._seconds("all_gather", "boundary", got)
        elif sharding != "none" and not way.param_gather:
            gathered = self._seconds("all_gather", "dense", got)
            gathers_first = gathered[:, 0]
        if sharding != "none" and (sharding == "zero3" or way.param_gather):
            gathers_first = self._seconds("all_gather", unit, got)[:, 0]
        start = np.maximum(gathers_first[:, None] + chain.before, gathered)
        last_reduced = 0.0 if self.splits else self._seconds(kind, unit, sent)
        paths = [start + chain.busy + chain.after + last_reduced, streams]
        if not every and sharding != "zero3":
            paths.append(start + reduced + (chain.first if way.grad_reduce else chain.busy))
        longest: Floats = np.maximum.reduce(paths).max(axis=1)
        return longest

    def _seconds(self, kind: CollectiveKind, parameters: str, bytes_each: float) -> Floats:
        """Return the seconds of one collective, [pair, rank].

        Args:
            kind: The collective.
            parameters: Field with the parameters that it is over: ``dense``, ``layers``, ``bucket``, ...
            bytes_each: Bytes that it moves for each of them.
        """
        key = (kind, parameters, bytes_each)
        if key not in self.seconds_of:
            data = getattr(self, parameters)[self.distinct] * bytes_each
            groups = zip(self.size[self.distinct].tolist(), self.stride[self.distinct].tolist(), strict=True)
            rows = [
                [self.prices.collective(kind, size, stride, data_bytes) for data_bytes in row]
                for (size, stride), row in zip(groups, data.tolist(), strict=True)
            ]
            self.seconds_of[key] = np.asarray(rows)[self.distinct_index]
        return self.seconds_of[key]

    def _gathers(self, word: str, *, every: bool) -> tuple[Floats, Floats]:
        """Return how often sharded weights of layers, and of the embedding and the head, are gathered."""
        pp, microbatches = self.example.parallelism.pp, self.microbatches[:, None]
        reshards = reshards_after_forward(word, pp, self.given.reshard_after_forward)
        if keeps_weights_over_step(pp, reshards=reshards, reduces_every=every):
            return np.ones_like(microbatches), np.ones_like(microbatches)
        return microbatches * (1 + reshards), microbatches

    def _norm_s(self) -> float:
        return self.prices.collective("all_reduce", self.example.parallelism.gpus, 1, 4.0)

    def _update_s(self, way: StepOptions) -> Floats:
        """Return the seconds of the optimizer by rank: on the GPU, and of copies to and from host memory."""
        example, gpu = self.example, self.example.cluster.gpu
        offload = StateOffload.of(
            replace(example.training.offload, optimizer=way.offload), example.software.bucket_bytes
        )
        parameters = self.total if way.sharding == "none" else self.shared
        away = parameters * offload.share
        on_gpu = parameters if way.offload == "stream" else parameters * (1 - offload.share)
        traffic = OffloadTraffic.of(away, self.sizes, offload)
        moved = update_traffic(on_gpu, self.total, self.sizes, self.reduction)
        seconds: Floats = moved * self.prices.hbm_s_per_byte
        if way.offload != "none":
            seconds = np.maximum(seconds, traffic.fetched / gpu.host_bytes_per_s)
        if way.offload == "cpu":
            seconds = np.maximum(seconds, traffic.updated / gpu.host_memory_bytes_per_s)
        return seconds
