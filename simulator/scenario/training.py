"""What one training step does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Recompute = Literal["none", "selective", "full"]
Precision = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "fp4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Which communication runs beside computation.

    Attributes:
        grad_reduce: Gradient reduction, bucket by bucket, beside the last backward passes.
        param_gather: Parameter gathering beside the first forward passes.
        p2p: Pipeline transfers beside computation.
        tp: Tensor-parallel collectives, in pieces, beside the matrix multiplications that need them.
    """

    grad_reduce: bool
    param_gather: bool
    p2p: bool
    tp: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Batch, sequence, number formats and what is kept for the backward pass.

    Attributes:
        seq_length: Tokens of one sequence.
        micro_batch_size: Sequences per micro-batch and data-parallel replica.
        global_batch_size: Sequences per step of the whole job.
        precision: Number format of the matrix multiplications.
        recompute: Activations recomputed in the backward pass: none, the attention core, whole layers.
        attention: Attention kernel: ``unfused``, ``flash1``, ``flash2``, ``flash3`` or ``cudnn``.
        grad_dtype: Number format in which gradients are accumulated and reduced.
        overlap: Which communication is overlapped.
        tokens: Tokens of the whole training run, or None; days and GPU hours follow from it.
    """

    seq_length: int
    micro_batch_size: int
    global_batch_size: int
    precision: Precision
    recompute: Recompute
    attention: str
    grad_dtype: Literal["fp32", "bf16", "fp16"]
    overlap: Overlap
    tokens: float | None = None
