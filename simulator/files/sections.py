"""The sections of a scenario file, with the other spellings of their keys that users bring."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simulator.documents import (
    Also,
    Count,
    GpuCount,
    PositiveCount,
    PositiveTokens,
    Strict,
)
from simulator.files.expert_section import ExpertsSection
from simulator.files.memory_section import MemorySettings
from simulator.files.noise_section import NoiseSection  # noqa: TC001  pydantic reads it
from simulator.files.schedule_choice import PYTORCH_NAMES, ScheduleChoice
from simulator.scenario.parallelism import Axis, ContextExchange, VocabularyMethod  # noqa: TC001  pydantic reads them
from simulator.scenario.training import CudaGraphScope  # noqa: TC001  pydantic reads it

_MEGATRON_SHARDING = {
    "no_shard": "none",
    "optim": "zero1",
    "optim_grads": "zero2",
    "optim_grads_params": "zero3",
}
_ZERO_STAGE = {0: "none", 1: "zero1", 2: "zero2", 3: "zero3"}
ShardingChoice = Literal[
    "none", "zero1", "zero2", "zero3", "fsdp", "full_shard", "shard_grad_op", "hybrid", "hsdp"
]
_TORCH_DTYPE = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


class ParallelismSection(Strict):
    """How the model and the batch are divided among the accelerators."""

    tp: Annotated[
        GpuCount,
        Also("tensor_model_parallel_size"),
        Also("tensor_parallel_degree"),
        Also("tp_size"),
    ] = 1
    """Tensor-parallel ranks."""
    pp: Annotated[
        GpuCount,
        Also("pipeline_model_parallel_size"),
        Also("pipeline_parallel_degree"),
        Also("pp_size"),
    ] = 1
    """Pipeline-parallel ranks."""
    vpp: Annotated[
        GpuCount,
        Also("virtual_pipeline_model_parallel_size", {None: 1}),
        Also("num_virtual_stages_per_pipeline_rank", {None: 1}),
        Also("interleaving_size"),
    ] = 1
    """Model chunks per pipeline rank (virtual pipeline); by default the interleaved schedule runs them."""
    cp: Annotated[
        GpuCount, Also("context_parallel_size"), Also("context_parallel_degree"), Also("cp_size")
    ] = 1
    """Context-parallel ranks."""
    ep: Annotated[
        GpuCount,
        Also("expert_model_parallel_size"),
        Also("expert_parallel_degree"),
        Also("expert_parallel_size"),
        Also("ep_size"),
    ] = 1
    """Expert-parallel ranks; the ranks of a pipeline stage fold into a mesh of their own for experts:
    dp x cp x tp = edp x ep x etp."""
    etp: Annotated[
        GpuCount | None,
        Also("expert_tensor_parallel_size"),
        Also("expert_tensor_parallel_degree"),
        Also("etp_size"),
    ] = None
    """Ranks that divide each expert (expert tensor parallelism); default: as many as tp."""
    dp: Annotated[
        GpuCount | Literal["auto"],
        Also("data_parallel_size", {-1: "auto", None: "auto"}),
        Also("dp_size"),
    ] = "auto"
    """Data-parallel replicas; auto: gpus / (tp x pp x cp)."""
    sequence_parallel: Annotated[bool | None, Also("enable_sequence_parallel")] = None
    """Divide norms and residuals along the sequence among tp ranks; default: where tp > 1."""
    schedule: Annotated[
        ScheduleChoice | None,
        Also("pipeline_parallel_schedule", PYTORCH_NAMES),
        Also("pp_engine"),
    ] = None
    """Pipeline schedule (`simulator list schedules`), or `{csv: file.csv}` with the actions of each rank in
    PyTorch's form; default: 1f1b where vpp is 1, else interleaved."""
    microbatch_group_size: Annotated[
        GpuCount | None,
        Also("microbatch_group_size_per_virtual_pipeline_stage"),
        Also("microbatch_group_size_per_vp_stage"),
    ] = None
    """Micro-batches that go through a model chunk before the next chunk's turn, in interleaved schedules;
    default: as many as pipeline ranks."""
    vocabulary: VocabularyMethod = "none"
    """Embedding and head divided among all pipeline ranks (arXiv:2411.05288): vocab-1 and vocab-2 beside
    other passes, interlaced with all ranks stopping for them."""
    sharding: Annotated[
        ShardingChoice,
        Also("use_distributed_optimizer", {True: "zero1", False: "none"}),
        Also("data_parallel_sharding_strategy", _MEGATRON_SHARDING),
        Also("zero_stage", _ZERO_STAGE),
        Also("zero_state", _ZERO_STAGE),
    ] = "none"
    """What data-parallel ranks share: nothing, optimizer state, gradients too (zero2), parameters too
    (zero3). FSDP's words: fsdp and full_shard are zero3, shard_grad_op is zero3 without
    reshard_after_forward, hybrid and hsdp are zero3 within shard_size ranks, by default those of a node."""
    shard_size: Annotated[
        GpuCount | None,
        Also("data_parallel_shard_degree", {-1: None}),
        Also("fsdp_shard_size"),
        Also("zero1_shard_size", {-1: None}),
    ] = None
    """Data-parallel ranks that share one copy; default: all. Further ranks hold replicas (HSDP, MiCS)."""
    shard_replicas: Annotated[
        GpuCount | None,
        Also("data_parallel_replicate_degree"),
        Also("num_distributed_optimizer_instances"),
    ] = None
    """Replicas of the group that shares one copy: another way to say shard_size = dp / shard_replicas."""
    reshard_after_forward: Annotated[
        bool | None,
        Also("fsdp_reshard_after_forward", {"default": None, "always": True, "never": False}),
    ] = None
    """Whether zero3 frees weights after a forward pass and gathers them again for the backward pass;
    default: unless there is a pipeline, as torchtitan does."""
    prefetch: Count = 1
    """Layers whose weights zero3 gathers ahead of the one that runs."""
    reduce_every_microbatch: Annotated[bool | None, Also("no_sync", {True: False, False: True})] = None
    """Whether gradients are reduced after each micro-batch instead of once per step; default: where
    gradients or parameters are sharded and there is no pipeline, as the software does."""
    layers: Annotated[
        Literal["even", "lighter-ends", "balanced"] | list[Count], Also("pipeline_parallel_layers_per_stage")
    ] = "even"
    """Layers of each pipeline stage: even, lighter-ends (first and last stage hold one layer fewer),
    balanced (in proportion to the speed of each stage's accelerators), or a list of pp x vpp numbers in
    model order."""
    cp_comm: Annotated[
        ContextExchange | None,
        Also("cp_comm_type", {"p2p": "ring", "a2a": "all_to_all", "a2a+p2p": "hierarchical"}),
        Also("context_parallel_rotate_method", {"allgather": "all_gather", "alltoall": "ring"}),
        Also("context_parallel_strategy"),
    ] = None
    """How context-parallel ranks see each other's keys and values: all_gather (before the attention), ring
    (while it runs), all_to_all (Ulysses: heads for positions) or hierarchical (all-to-all among cp_heads
    neighbours, ring among their groups); default: as the software does."""
    cp_heads: Annotated[GpuCount | None, Also("ulysses_degree")] = None
    """Neighbouring ranks that exchange heads in the hierarchical scheme: a divisor of cp."""
    cp_balance: Annotated[bool, Also("context_parallel_load_balance"), Also("enable_load_balance")] = True
    """Whether each context-parallel rank holds a piece of the sequence's front and one of its back (zig-zag),
    which balances causal attention; otherwise each holds one contiguous part."""
    placement: list[Axis] = Field(default=["tp", "cp", "dp", "pp"])
    """Axes from the innermost (neighbouring ranks) to the outermost."""


class OverlapSection(Strict):
    """Which communication runs beside computation; default: as the software does."""

    grad_reduce: bool | None = None
    """Gradient reduction beside the last backward passes."""
    param_gather: bool | None = None
    """Parameter gathering beside the first forward passes."""
    p2p: bool | None = None
    """Pipeline transfers beside computation."""
    tp: bool | None = None
    """Tensor-parallel collectives, in pieces, beside matrix multiplications."""
    ep: Annotated[bool | None, Also("overlap_moe_expert_parallel_comm")] = None
    """Tokens on their way to experts and back, beside the computation of another micro-batch."""
    shared_experts: Annotated[bool | None, Also("moe_shared_expert_overlap")] = None
    """Tokens on their way to experts and back, beside the shared experts."""


class TrainingSection(MemorySettings):
    """What one training step does."""

    seq_length: Annotated[PositiveCount, Also("sequence_length"), Also("seq_len"), Also("max_context_length")]
    """Tokens of one sequence."""
    micro_batch_size: Annotated[PositiveCount, Also("micro_batch"), Also("mbs")] = 1
    """Sequences per micro-batch and data-parallel replica."""
    global_batch_size: Annotated[PositiveCount, Also("global_batch"), Also("gbs")]
    """Sequences per step of the whole job."""
    attention: Literal["unfused", "flash1", "flash2", "flash3", "cudnn"] | None = None
    """Attention kernel; default: as the software does."""
    grad_dtype: Annotated[
        Literal["fp32", "bf16", "fp16"] | None,
        Also("grad_reduce_in_fp32", {True: "fp32", False: "bf16"}),
        Also("accumulate_allreduce_grads_in_fp32", {True: "fp32", False: "bf16"}),
    ] = None
    """Number format of gradient accumulation and reduction; default: as the software does."""
    reduce_dtype: Annotated[
        Literal["fp32", "bf16", "fp16"] | None, Also("mixed_precision_reduce", _TORCH_DTYPE)
    ] = None
    """Number format in which gradients travel, where it is another than that of their accumulation."""
    param_dtype: Annotated[
        Literal["fp32", "bf16", "fp16"] | None, Also("mixed_precision_param", _TORCH_DTYPE)
    ] = None
    """Number format in which weights are gathered and held for the layers; default: that of the precision,
    16 bits where that is lower."""
    mean_document_length: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    """Mean length of the documents packed into a sequence, where attention does not cross them; default: it
    does. Their lengths are taken to be geometrically distributed."""
    loss_chunks: Annotated[PositiveCount, Also("num_vocab_tiling")] = 1
    """Chunks of tokens that the vocabulary head and the loss run over one after the other, so that the logits
    of one chunk exist at a time (Liger's fused linear cross entropy, MaxText's vocabulary tiling)."""
    tokens: PositiveTokens | None = None
    """Tokens of the whole training run; days and GPU hours follow from it."""
    cuda_graphs: Annotated[list[CudaGraphScope], Also("cuda_graph_scope", {None: []})] = Field(default=[])
    """Modules whose kernels CUDA graphs launch, or [full_iteration]; the host launches the rest."""
    experts: ExpertsSection = ExpertsSection()
    """How tokens reach their experts and how these compute."""
    post_validation: bool | None = None
    """Whether ranks update their weights without waiting for the gradient norm of all, and check it
    afterwards; default: with zb-1p and zb-2p."""
    overlap: OverlapSection = OverlapSection()
    """Which communication runs beside computation; default: as the software does."""


class SimulationSection(Strict):
    """How to simulate."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of every random number."""
    engine: Literal["event", "compiled"] = "event"
    """event, or compiled: faster, but without transfers that share links."""
    noise: NoiseSection | None = None
    """What makes GPUs and steps differ; `simulator montecarlo` draws it, other verbs leave it out."""


class PublishedSection(Strict):
    """A published measurement to draw beside a curve."""

    x: float
    """Value on the horizontal axis."""
    y: float
    """Measured value of the sweep's metric."""
    source: str = Field(min_length=1)
    """Citation, shown in the legend."""
    series: str | int | float | bool | None = None
    """Value of the series setting that the point belongs to."""


class SweepSection(Strict):
    """What `simulator sweep` varies and draws."""

    parameters: dict[str, Annotated[list[str | int | float | bool | list[int]], Field(min_length=1)]] = Field(
        min_length=1
    )
    """Dotted path of a setting to the values it takes."""
    together: bool = False
    """Take the values position by position instead of in all combinations."""
    x: str | None = None
    """Setting on the horizontal axis; default: the only parameter."""
    y: str = "tflops_per_gpu"
    """Metric on the vertical axis."""
    series: str | None = None
    """Setting that tells the curves apart."""
    published: list[PublishedSection] = Field(default=[])
    """Measurements to draw beside the curves."""


class MeasuredSection(Strict, extra="allow"):
    """A published result to show beside the prediction: metric names with their values, and the source."""

    __pydantic_extra__: dict[str, float]
    source: str = Field(min_length=1)
    """Citation."""
