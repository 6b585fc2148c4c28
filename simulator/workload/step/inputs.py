"""All that decides which ops a training step has, and what they wait for: ``lay_out`` reads nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from simulator.schedules import StageTimes
    from simulator.workload.pipeline import Pipeline
    from simulator.workload.program import Ints


class BucketCounts(NamedTuple):
    """How many collectives a gradient bucket (or an FSDP unit) has.

    Attributes:
        gathers: All-gathers (or broadcasts) of its weights.
        reduces: Collectives that reduce its gradients.
        sums: Collectives that then sum shards of gradients over replicas of the shard group.
    """

    gathers: int
    reduces: int
    sums: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FsdpInputs:
    """What decides when FSDP gathers weights.

    Attributes:
        ahead: Units whose weights are gathered ahead of the one that runs.
        once_per_step: Whether weights are gathered once, for all micro-batches of a step.
        reshards_after_forward: Whether they are freed after a forward pass and gathered again.
        copies_in: Copies of gathered weights before a unit runs, by index into ``slots.COPIES``.
        copies_out: Copies of gradients before they are reduced, likewise.
    """

    ahead: int
    once_per_step: bool
    reshards_after_forward: bool
    copies_in: tuple[int, ...] = ()
    copies_out: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadedUpdate:
    """An optimizer step through host memory.

    Attributes:
        on_host: Whether the host updates (ZeRO-Offload), or state is streamed through the GPU.
        overlaps: Whether one bucket is copied while another is updated.
        buckets: Buckets of each pipeline rank.
    """

    on_host: bool
    overlaps: bool
    buckets: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndInputs:
    """What decides how a step ends.

    Attributes:
        gradient_norm: Whether all ranks sum up the norm of the gradients before they update.
        tied_embeddings: Whether the first and the last stage hold copies of one table.
        updates_on_gpu: Whether the GPU updates weights; not where all of the optimizer step is offloaded.
        casts_weights: By rank, whether it makes low-precision copies of its weights once per step.
        amax_history: Whether delayed scaling agrees on the largest value of each tensor.
        offloaded: The part of the optimizer step that goes through host memory, if any.
    """

    gradient_norm: bool
    tied_embeddings: bool
    updates_on_gpu: bool
    casts_weights: tuple[bool, ...]
    amax_history: bool = False
    offloaded: OffloadedUpdate | None = None


Buckets = tuple[tuple[BucketCounts, int], ...]
"""Gradient buckets (or FSDP units) of a stage in model order: runs of equal ones, and their length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutInputs:
    """All that decides which ops a step has and what they wait for.

    Attributes:
        pipeline: What the order of passes depends on.
        times: How long passes take, for schedules that are made to measure; equal times where None.
        buckets: The different lists of buckets that stages have.
        stage_buckets: By stage, index of its list; empty where all stages have the first one.
        fsdp: When sharded weights are gathered; None where every rank holds whole weights.
        overlaps_grad_reduce: Whether gradients are reduced bucket by bucket beside backward passes.
        overlaps_param_gather: Whether weights are gathered bucket by bucket beside forward passes.
        overlaps_p2p: Whether pipeline messages travel beside passes.
        reduces_every_microbatch: Whether gradients are reduced after each micro-batch.
        end: How the step ends.
    """

    pipeline: Pipeline
    times: StageTimes | None
    buckets: tuple[Buckets, ...]
    stage_buckets: tuple[int, ...]
    fsdp: FsdpInputs | None
    overlaps_grad_reduce: bool
    overlaps_param_gather: bool
    overlaps_p2p: bool
    reduces_every_microbatch: bool
    end: EndInputs

    def bucket_lists(self) -> list[list[BucketCounts]]:
        """Return the buckets of each of ``buckets``, one by one."""
        return [[counts for counts, length in runs for _ in range(length)] for runs in self.buckets]

    def list_of_stage(self) -> Ints:
        """Return for each stage the index of its list of buckets."""
        stages = self.pipeline.stages
        return np.array(self.stage_buckets or (0,) * stages, dtype=np.int64)
