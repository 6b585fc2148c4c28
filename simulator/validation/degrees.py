"""A row's degrees of parallelism and batch sizes, checked against each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.errors import RowError
from simulator.schedules import SCHEDULES
from simulator.validation.stages import single_layer_chunks

if TYPE_CHECKING:
    from simulator.validation.assumptions import Assumptions
    from simulator.validation.rows import Row

DEVICES_PER_CHIP = {"tpu-v7": 2}
"""Chips that their software shows as several devices; rows may count degrees in devices and gpus in chips.

https://docs.cloud.google.com/tpu/docs/tpu7x: JAX sees each of the two chiplets of a TPU7x as a device.
"""

MICRO_BATCHES_PER_STAGE = 4
"""Assumed where the batch is not stated: the bubble is small from there on (GPipe, arXiv:1811.06965, 2.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Degrees:
    """Degrees of parallelism and batch sizes as in a scenario, all known.

    Attributes:
        tp: Tensor-parallel ranks.
        pp: Pipeline ranks.
        vpp: Model chunks per pipeline rank.
        cp: Context-parallel ranks.
        ep: Expert-parallel ranks.
        dp: Data-parallel replicas.
        micro_batch: Sequences per micro-batch and replica.
        global_batch: Sequences per step.
    """

    tp: int
    pp: int
    vpp: int
    cp: int
    ep: int
    dp: int
    micro_batch: int
    global_batch: int


def row_degrees(row: Row, gpu: str, layers: int, assumptions: Assumptions) -> Degrees:
    """Complete and check a row's degrees and batch.

    Args:
        row: The row.
        gpu: Catalogue name of its accelerator.
        layers: Transformer layers of its model.
        assumptions: Fills in what is not stated.

    Raises:
        RowError: The row contradicts itself.
    """
    tp, pp, cp = row.parallel.tp, row.parallel.pp, row.parallel.cp
    replica = tp * pp * cp
    dp = row.parallel.dp if row.parallel.dp is not None else max(1, row.gpus // replica)
    micro_batch = row.micro_batch
    devices = DEVICES_PER_CHIP.get(gpu, 1)
    if devices > 1 and replica * dp == row.gpus * devices and dp % devices == 0:
        dp //= devices
        micro_batch = micro_batch * devices if micro_batch else None
        assumptions.note(f"degrees count devices, {devices} to a chip: dp {dp} of whole chips is simulated")
    if replica * dp != row.gpus:
        product = f"tp {tp} x pp {pp} x cp {cp} x dp {dp} = {replica * dp}"
        raise RowError(f"row contradicts itself: {row.gpus} GPUs, but {product}")
    micro_batch, global_batch = _batches(row, dp, micro_batch, assumptions)
    return Degrees(
        tp=tp,
        pp=pp,
        vpp=_chunks(row, layers, global_batch // (micro_batch * dp), assumptions),
        cp=cp,
        ep=row.parallel.ep,
        dp=dp,
        micro_batch=micro_batch,
        global_batch=global_batch,
    )


def _batches(row: Row, dp: int, micro_batch: int | None, assumptions: Assumptions) -> tuple[int, int]:
    pipelined = row.parallel.pp > 1
    micro_batches = MICRO_BATCHES_PER_STAGE * row.parallel.pp if pipelined else 1
    tokens = 0 if pipelined else assumptions.defaults.microbatch_tokens
    usual = micro_batch or max(1, tokens // (row.seq_len or assumptions.defaults.seq_length))
    global_batch = assumptions.default("global batch", row.global_batch, usual * dp * micro_batches)
    whole = max(1, global_batch // dp)
    micro_batch = assumptions.default("micro-batch", micro_batch, _usual_micro_batch(row, whole, assumptions))
    if global_batch % (micro_batch * dp):
        text = f"global batch {global_batch} is no multiple of micro-batch {micro_batch} x dp {dp}"
        raise RowError(f"row contradicts itself: {text}")
    return micro_batch, global_batch


def _usual_micro_batch(row: Row, replica_batch: int, assumptions: Assumptions) -> int:
    """Return the sequences of a micro-batch where the row does not state them."""
    pp, defaults = row.parallel.pp, assumptions.defaults
    if pp > 1 and defaults.one_microbatch_per_stage and replica_batch % pp == 0:
        return replica_batch // pp
    if pp == 1 and defaults.microbatch_tokens:
        wanted = max(1, defaults.microbatch_tokens // (row.seq_len or defaults.seq_length))
        return next(size for size in range(min(wanted, replica_batch), 0, -1) if replica_batch % size == 0)
    return 1 if pp > 1 or defaults.accumulates else replica_batch


def _interleaves(row: Row, layers: int, microbatches: int, assumptions: Assumptions) -> bool:
    """Tell whether a row's schedule is interleaved, must be, or usually is.

    Megatron overlaps messages in no other one (Megatron-LM arguments.py: "Overlap P2P communication is
    disabled if not using the interleaved schedule"). Recipes for models with experts interleave where layers
    and micro-batches are multiples of the pipeline's ranks.
    """
    if row.schedule is not None:
        return row.schedule == "interleaved"
    if row.overlap.pp and assumptions.defaults.p2p_overlap_interleaves:
        return True
    usual = assumptions.defaults.interleaves_experts and bool(row.arch.experts)
    return usual and layers % row.parallel.pp == 0 and microbatches % row.parallel.pp == 0


def _chunks(row: Row, layers: int, microbatches: int, assumptions: Assumptions) -> int:
    if row.parallel.pp == 1:
        return 1
    schedule = SCHEDULES.get(row.schedule or "")
    if schedule is not None and schedule.copies > 1:
        return schedule.chunks[0]  # rows count the copies of other ranks' stages as chunks
    if row.parallel.vpp is not None or not _interleaves(row, layers, microbatches, assumptions):
        return row.parallel.vpp or (schedule.chunks[0] if schedule is not None else 1)
    usual = assumptions.defaults.chunks_per_rank or single_layer_chunks(layers, row.parallel.pp)
    return assumptions.default("number of virtual stages", None, usual)
