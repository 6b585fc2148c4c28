"""The sections of a scenario file, with the other spellings of their keys that users bring."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema, model_validator

from simulator.documents import (
    Also,
    Count,
    DollarsPerHour,
    GpuCount,
    PositiveCount,
    PositiveTokens,
    Strict,
)
from simulator.files.named import GpuChoice, NetworkChoice  # noqa: TC001  pydantic reads them
from simulator.scenario.parallelism import Axis, ContextExchange  # noqa: TC001  pydantic reads them
from simulator.scenario.training import Precision, Recompute  # noqa: TC001  pydantic reads them

_PIPELINE_SCHEDULES = {"1F1B": "1f1b", "Interleaved1F1B": "interleaved"}
_MEGATRON_SHARDING = {
    "no_shard": "none",
    "optim": "zero1",
    "optim_grads": "zero2",
    "optim_grads_params": "zero3",
}
_ZERO_STAGE = {0: "none", 1: "zero1", 2: "zero2", 3: "zero3"}
_RECOMPUTE = {"enum": ["none", "selective", "full"]}


class ClusterSection(Strict):
    """The hardware of the job."""

    gpu: GpuChoice
    """Accelerator: a catalogue name (`simulator list gpus`) or an inline entry."""
    gpus: Annotated[GpuCount, Also("num_gpus"), Also("world_size")]
    """Accelerators of the job: tp x pp x cp x dp."""
    gpus_per_node: GpuCount | None = None
    """Accelerators of one host; default: as the gpu's usual server."""
    scale_up_domain: Annotated[GpuCount | None, Also("nvlink_domain")] = None
    """Accelerators that share one NVLink (xGMI, ICI) domain; default: as the gpu's usual server."""
    network: NetworkChoice | None = None
    """Scale-out network: a catalogue name (`simulator list networks`) or an inline entry; default:
    the gpu's usual NIC on a non-blocking rail-optimised fabric, with a warning that it is assumed."""
    price_per_gpu_hour: DollarsPerHour | None = None
    """Price of one accelerator for one hour."""


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
    """Model chunks per pipeline rank (virtual pipeline); more than 1 means the interleaved schedule."""
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
    """Expert-parallel ranks, taken out of dp x cp."""
    dp: Annotated[
        GpuCount | Literal["auto"],
        Also("data_parallel_size", {-1: "auto", None: "auto"}),
        Also("data_parallel_replicate_degree", {-1: "auto"}),
        Also("dp_size"),
    ] = "auto"
    """Data-parallel replicas; auto: gpus / (tp x pp x cp)."""
    sequence_parallel: Annotated[bool | None, Also("enable_sequence_parallel")] = None
    """Divide norms and residuals along the sequence among tp ranks; default: where tp > 1."""
    schedule: Annotated[
        Literal["1f1b", "interleaved"] | None,
        Also("pipeline_parallel_schedule", _PIPELINE_SCHEDULES),
        Also("pp_engine"),
    ] = None
    """Pipeline schedule; default: 1f1b where vpp is 1, else interleaved."""
    sharding: Annotated[
        Literal["none", "zero1", "zero2", "zero3"],
        Also("use_distributed_optimizer", {True: "zero1", False: "none"}),
        Also("data_parallel_sharding_strategy", _MEGATRON_SHARDING),
        Also("zero_stage", _ZERO_STAGE),
        Also("zero_state", _ZERO_STAGE),
    ] = "none"
    """What data-parallel ranks share: nothing, optimizer state, gradients too, parameters too."""
    layers: Annotated[
        Literal["even", "lighter-ends"] | list[Count], Also("pipeline_parallel_layers_per_stage")
    ] = "even"
    """Layers of each pipeline stage: even, lighter-ends (first and last stage hold one layer fewer),
    or a list of pp x vpp numbers in model order."""
    cp_comm: Annotated[ContextExchange, Also("cp_comm_type", {"p2p": "ring"})] = "all_gather"
    """How context-parallel ranks see each other's keys and values."""
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


class TrainingSection(Strict):
    """What one training step does."""

    seq_length: Annotated[PositiveCount, Also("sequence_length"), Also("seq_len"), Also("max_context_length")]
    """Tokens of one sequence."""
    micro_batch_size: Annotated[PositiveCount, Also("micro_batch"), Also("mbs")] = 1
    """Sequences per micro-batch and data-parallel replica."""
    global_batch_size: Annotated[PositiveCount, Also("global_batch"), Also("gbs")]
    """Sequences per step of the whole job."""
    precision: Precision = "bf16"
    """Number format of the matrix multiplications."""
    recompute: Annotated[
        Recompute,
        WithJsonSchema(
            {"anyOf": [_RECOMPUTE, {"type": "object", "properties": {"granularity": _RECOMPUTE}}]}
        ),
        Also("recompute_granularity", {None: "none"}),
        Also("activations_checkpoint_granularity", {None: "none"}),
    ] = "none"
    """Activations recomputed in the backward pass; also `{granularity: full}`."""
    attention: Literal["unfused", "flash1", "flash2", "flash3", "cudnn"] | None = None
    """Attention kernel; default: as the software does."""
    grad_dtype: Literal["fp32", "bf16", "fp16"] | None = None
    """Number format of gradient accumulation and reduction; default: as the software does."""
    tokens: PositiveTokens | None = None
    """Tokens of the whole training run; days and GPU hours follow from it."""
    overlap: OverlapSection = OverlapSection()
    """Which communication runs beside computation; default: as the software does."""

    @model_validator(mode="before")
    @classmethod
    def _granularity(cls, data: object) -> object:
        if not isinstance(data, dict) or not isinstance(data.get("recompute"), dict):
            return data
        recompute = data["recompute"]
        if list(recompute) != ["granularity"]:
            keys = ", ".join(map(str, recompute)) or "nothing"
            raise ValueError(f"recompute takes one key, 'granularity', got {keys}")
        return data | {"recompute": recompute["granularity"]}


class SimulationSection(Strict):
    """How to simulate."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of every random number."""


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
