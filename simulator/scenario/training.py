"""What one training step does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from simulator.scenario.experts import ExpertTraining
from simulator.scenario.recompute import Offload, RecomputeDetail

if TYPE_CHECKING:
    from simulator.scenario.recompute import Recompute

NumberFormat = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "fp4"]
Precision = Literal[
    "fp32",
    "tf32",
    "fp16",
    "bf16",
    "fp8",
    "fp8-delayed",
    "fp8-current",
    "fp8-rowwise",
    "fp8-blockwise",
    "fp8-mx",
    "fp4",
    "nvfp4",
]
CudaGraphScope = Literal[
    "full_iteration", "attn", "mamba", "mlp", "moe", "moe_router", "moe_preprocess", "shared_experts"
]
StateFormat = Literal["fp32", "bf16", "fp16", "fp8"]


def number_format(precision: str) -> str:
    """Return the number format of a precision's matrix multiplications: its name without the recipe.

    >>> [number_format(name) for name in ("bf16", "fp8-mx", "nvfp4")]
    ['bf16', 'fp8', 'fp4']
    """
    return "fp4" if precision == "nvfp4" else precision.partition("-")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Which communication runs beside computation."""

    grad_reduce: bool
    """Gradient reduction, bucket by bucket, beside the last backward passes."""
    param_gather: bool
    """Parameter gathering beside the first forward passes."""
    p2p: bool
    """Pipeline transfers beside computation."""
    tp: bool
    """Tensor-parallel collectives, in pieces, beside the matrix multiplications that need them."""
    ep: bool = False
    """Tokens on their way to experts and back, beside the computation of another micro-batch that the rank
    takes the other way through the model (Megatron-Core's 1F1B overlap, DualPipe)."""
    shared_experts: bool = False
    """Tokens on their way to experts and back, beside the shared experts of the layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Batch, sequence, number formats and what is kept for the backward pass.

    Attributes:
        seq_length: Tokens of one sequence.
        micro_batch_size: Sequences per micro-batch and data-parallel replica.
        global_batch_size: Sequences per step of the whole job.
        precision: Number format of the matrix multiplications, with the recipe that scales low ones.
        recompute: Activations recomputed in the backward pass: none, the attention core, whole layers.
        attention: Attention kernel: ``unfused``, ``flash1``, ``flash2``, ``flash3`` or ``cudnn``.
        grad_dtype: Number format in which gradients are accumulated and reduced.
        overlap: Which communication is overlapped.
        tokens: Tokens of the whole training run, or None; days and GPU hours follow from it.
        mean_document_length: Mean length of the documents packed into a sequence, where attention never
            crosses them (Llama 3, arXiv:2407.21783, section 3.2); None where it does.
        loss_chunks: Chunks of tokens that the vocabulary head and the loss run over one after the other.
        experts: How tokens reach their experts.
        cuda_graphs: Modules whose kernels CUDA graphs launch, or ``full_iteration``; the host does the rest.
        recompute_detail: Which modules or layers are recomputed.
        offload: What waits in host memory.
        bf16_layers_at_start: First layers of the model that stay in 16 bits in a low-precision recipe.
        bf16_layers_at_end: Last layers that do.
        low_precision_params: Whether weights are stored and gathered in the low precision (Megatron-Core's
            ``fp8_param_gather``): the fp32 master copy is the only other one.
        master_dtype: Number format of the optimizer's copy of the weights.
        moment_dtype: Number format of Adam's moments (Megatron-Core's precision-aware optimizer).
        param_dtype: Number format in which weights are gathered and kept for the layers (FSDP's
            ``MixedPrecisionPolicy.param_dtype``), or None for that of the precision.
        reduce_dtype: Number format in which gradients travel, or None for ``grad_dtype``.
        post_validation: Whether ranks update their weights without waiting for the gradient norm of all, and
            check it afterwards (Qi et al., arXiv:2401.10241, section 4): steps of ranks then overlap.
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
    param_dtype: Literal["fp32", "bf16", "fp16"] | None = None
    reduce_dtype: Literal["fp32", "bf16", "fp16"] | None = None
    mean_document_length: float | None = None
    loss_chunks: int = 1
    experts: ExpertTraining = field(default_factory=ExpertTraining)
    cuda_graphs: tuple[CudaGraphScope, ...] = ()
    recompute_detail: RecomputeDetail = field(default_factory=RecomputeDetail)
    offload: Offload = field(default_factory=Offload)
    bf16_layers_at_start: int = 0
    bf16_layers_at_end: int = 0
    low_precision_params: bool = False
    master_dtype: StateFormat = "fp32"
    moment_dtype: StateFormat = "fp32"
    post_validation: bool = False
