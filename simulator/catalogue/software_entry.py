"""Schema of a software stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from simulator.catalogue.entry import Entry, assumed
from simulator.catalogue.lookup import find
from simulator.catalogue.training import Numbers, stack_habits, typical_habits
from simulator.documents import Bytes, Count, Name, PositiveBytes, Seconds, Sourced, Strict
from simulator.scenario import Overlap, Provenance, Software
from simulator.scenario.experts import Dispatcher  # noqa: TC001  pydantic reads it
from simulator.scenario.parallelism import ContextExchange  # noqa: TC001  pydantic reads it
from simulator.scenario.recompute import RecomputeModule  # noqa: TC001  pydantic reads it

Fusion = Literal[
    "norm",
    "bias_activation",
    "rope",
    "dropout_add",
    "softmax",
    "cross_entropy",
    "gated_product",
    "gradient_accumulation",
    "bias_gradient",
    "amax",
    "router",
    "permute",
    "query_key_value",
    "norm_gradient",
    "grouped_mlp",
]
AttentionKernel = Literal["unfused", "flash1", "flash2", "flash3", "cudnn"]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


Slowdown = Annotated[float, Field(ge=0.5, le=10, allow_inf_nan=False)]


class OverlapEntry(Strict):
    """Which communication runs beside computation."""

    grad_reduce: bool
    """Gradient reduction beside the last backward passes."""
    param_gather: bool
    """Parameter gathering beside the first forward passes."""
    p2p: bool
    """Pipeline transfers beside computation."""
    tp: bool
    """Tensor-parallel collectives, in pieces, beside the matrix multiplications that need them."""
    ep: bool = False
    """Tokens on their way to experts and back, beside the computation of another micro-batch."""
    shared_experts: bool = False
    """Tokens on their way to experts and back, beside the shared experts."""


class SoftwareEntry(Entry):
    """A training stack's habits."""

    entry_kind: ClassVar[str] = "software"

    attention: Sourced[AttentionKernel]
    """Attention kernel it uses unless the scenario says otherwise."""
    fused: Sourced[list[Fusion]]
    """Element-wise operations that it runs as one kernel."""
    kernel_launch: Sourced[Seconds] | None = None
    """Host time to launch one kernel; typical of all stacks unless stated."""
    module_call: Sourced[Seconds] = assumed(0.0, "hidden behind the kernels of earlier modules")
    """Host time to call one module, forward or backward, beside its launches."""
    overlap: Sourced[OverlapEntry]
    """What it overlaps unless the scenario says otherwise."""
    wgrad_overlaps_tp: Sourced[bool]
    """Whether backward tensor-parallel collectives run beside weight-gradient GEMMs."""
    bucket: Sourced[PositiveBytes]
    """Size of one gradient-reduction bucket."""
    grad_dtype: Sourced[Literal["fp32", "bf16", "fp16"]]
    """Number format of gradient accumulation and reduction."""
    fp16_grad_dtype: Sourced[Literal["fp32", "fp16"]] | None = None
    """The same where weights are fp16; default: grad_dtype."""
    elementwise_slowdown: Sourced[Slowdown] | None = None
    """Time of its memory-bound kernels over that of the bytes listed for them; typical unless stated."""
    step_overhead: Sourced[Seconds] | None = None
    """Fixed time of a step that nothing hides; typical of all stacks unless stated."""
    optimizer_bytes_per_parameter: Sourced[Amount]
    """HBM traffic of the optimizer step per parameter of the rank's shard."""
    reduction_bytes_per_parameter: Sourced[Amount] = assumed(0.0, "gradients are reduced where they are made")
    """HBM traffic around the reduction of gradients and gathering of weights per parameter of the rank."""
    framework_memory: Sourced[Bytes]
    """Memory that the framework, CUDA context and communicators hold."""
    memory_fragmentation: Sourced[Share]
    """Share of the allocated memory lost to the allocator."""
    recompute_modules: Sourced[list[RecomputeModule]] = assumed(["core_attn"], "as Megatron-LM")
    """What `recompute: selective` recomputes unless the scenario says otherwise."""
    recompute_stops_early: Sourced[bool] = assumed(False, "as Megatron-LM, whose checkpoints run again whole")
    """Whether recomputing a layer ends with the last tensor that its backward pass needs."""
    casts_every_pass: Sourced[bool] = assumed(
        False, "as Transformer Engine, which caches low-precision weights"
    )
    """Whether low-precision copies of weights are made in every pass, layouts by copies when needed."""
    cp_comm: Sourced[ContextExchange] = assumed("all_gather", "no context parallelism of its own is known")
    """How context-parallel ranks see each other's keys and values unless the scenario says otherwise."""
    cp_gathers_in_turns: Sourced[bool] = assumed(False, "one kernel over everything gathered")
    """Whether attention over gathered keys and values runs turn by turn like a ring's, summing in fp32."""
    repeats_key_values: Sourced[bool] = assumed(False, "attention kernels take fewer key and value heads")
    """Whether keys and values are copied for each query head that shares them, before any exchange."""
    sorts_copies: Sourced[bool] = assumed(False, "one kernel reads a token and writes its copies in order")
    """Whether copies of tokens for experts are made, sorted and added up in fp32 by passes of their own."""
    tp_reduce_pieces: Sourced[Count] = assumed(0, "as many as ranks, like the pieces of a gathered input")
    """Pieces of a GEMM whose result is reduce-scattered meanwhile; 0: as many as ranks, by messages."""
    keeps_gathered_input: Sourced[bool] = assumed(False, "as Megatron since arXiv:2205.05198")
    """Whether the input gathered for a column-parallel layer is kept for its weight gradient."""
    separate_projections: Sourced[bool] = assumed(False, "as Megatron: one matrix")
    """Whether query, key and value projections, and the gate's, are matrices of their own."""
    collective_multiprocessors: Sourced[Count] = assumed(0, "nothing known")
    """Multiprocessors that a collective takes at most; across the network NCCL has fewer channels."""
    reduce_every_microbatch: Sourced[bool] = assumed(True, "as FSDP and ZeRO-2 do unless told otherwise")
    """Whether sharded gradients are reduced after each micro-batch where there is no pipeline."""
    unshard_copies: Sourced[bool] = assumed(False, "gathered weights are used where they arrive")
    """Whether gathered weights, and gradients to be reduced, are copied by kernels of their own."""
    gate_apart: Sourced[bool] = assumed(False, "as Megatron: one matrix")
    """Whether only the gate and the up projection are layers, each summing its own input gradient."""
    sums_whole_gradients: Sourced[bool] = assumed(False, "arXiv:1910.02054: ZeRO-1 reduce-scatters")
    """Whether ZeRO-1 sums whole gradients on every rank instead of reduce-scattering them."""
    reduce_dtype: Sourced[Literal["fp32", "bf16", "fp16"]] | None = None
    """Number format in which gradients travel; default: that in which they are accumulated."""
    whole_messages: Sourced[bool] = assumed(False, "as Megatron since arXiv:2104.04473, section 4.1")
    """Whether every tensor-parallel rank sends the whole activation to the next pipeline stage."""
    broadcasts_weights: Sourced[bool] = assumed(False, "equal shards, gathered at once")
    """Whether ZeRO-1 ranks own whole tensors and broadcast them, one owner after the other."""
    gathers_tensor_by_tensor: Sourced[bool] = assumed(False, "a layer at a time, into one buffer")
    """Whether sharded weights are gathered one tensor at a time, with a copy for every rank's part."""
    blocks_launches: Sourced[bool] = assumed(False, "CUDA launches are asynchronous")
    """Whether the host waits for every kernel before it launches the next (CUDA_LAUNCH_BLOCKING)."""
    dispatcher: Sourced[Dispatcher] = assumed("alltoall", "as Megatron-Core's moe_token_dispatcher_type")
    """Who carries tokens to experts unless the scenario says otherwise."""
    loss_in_place: Sourced[bool] = assumed(True, "as Megatron's vocabulary-parallel cross entropy")
    """Whether the gradient of the logits overwrites their fp32 soft-max."""
    gathers_logits: Sourced[bool] = assumed(False, "as Megatron's vocabulary-parallel cross entropy")
    """Whether tensor-parallel ranks gather the logits and each runs the loss over the whole vocabulary."""
    holds_last_output: Sourced[bool] = assumed(False, "as Megatron, whose last stage puts out a loss")
    """Whether the last stage's output of one micro-batch is still held during the next one."""
    copies_attention_output: Sourced[bool] = assumed(False, "the kernel writes what the projection reads")
    """Whether the result of a fused attention kernel is copied into another layout and both are kept."""
    loss_metrics: Sourced[Count] = assumed(0, "no metric besides the loss")
    """Training metrics that compute the loss of every micro-batch again from its logits."""
    unpads_attention: Sourced[list[AttentionKernel]] = assumed([], "sequences are packed, without padding")
    """Attention kernels around which padding is taken out and put back by copies."""
    matches: list[Name] = Field(default_factory=list)
    """Regular expressions of the names under which publications mention exactly this stack."""
    nearest_for: list[Name] = Field(default_factory=list)
    """Regular expressions of the names of other stacks that this one stands in for."""

    @field_validator("overlap", mode="before")
    @classmethod
    def _bare_overlap(cls, value: object) -> object:
        """Accept the four switches without ``value:`` around them."""
        if isinstance(value, Mapping) and "value" not in value:
            return {"value": value, "source": "stated without a source", "kind": "assumed"}
        return value

    @classmethod
    def fitted(cls, name: str) -> Mapping[str, object]:
        """Return what was fitted to a stack's published runs."""
        return _as_fields(stack_habits(find("software", name)))

    @classmethod
    def typical(cls) -> Mapping[str, object]:
        """Return what a stack has that was fitted to no runs and states nothing else."""
        return _as_fields(typical_habits())

    def to_scenario(self, name: str) -> Software:
        """Return the stack as scenario data, with the provenance of every number."""
        costs = self._costs(name)
        return Software(
            name=self.name or name,
            attention=self.attention.value,
            fused=frozenset(self.fused.value),
            kernel_launch_s=costs["kernel_launch_s"].value,
            module_call_s=costs["module_call_s"].value,
            elementwise_slowdown=float(costs["elementwise_slowdown"].value),
            overlap=Overlap(**self.overlap.value.model_dump()),
            wgrad_overlaps_tp=self.wgrad_overlaps_tp.value,
            bucket_bytes=self.bucket.value,
            grad_dtype=self.grad_dtype.value,
            step_overhead_s=costs["step_overhead_s"].value,
            optimizer_bytes_per_parameter=float(self.optimizer_bytes_per_parameter.value),
            reduction_bytes_per_parameter=float(self.reduction_bytes_per_parameter.value),
            framework_bytes=self.framework_memory.value,
            memory_fragmentation=float(self.memory_fragmentation.value),
            reduce_every_microbatch=self.reduce_every_microbatch.value,
            unshard_copies=self.unshard_copies.value,
            recompute_modules=tuple(self.recompute_modules.value),
            recompute_stops_early=self.recompute_stops_early.value,
            casts_every_pass=self.casts_every_pass.value,
            loss_in_place=self.loss_in_place.value,
            gathers_logits=self.gathers_logits.value,
            holds_last_output=self.holds_last_output.value,
            copies_attention_output=self.copies_attention_output.value,
            loss_metrics=self.loss_metrics.value,
            unpads_attention=frozenset(self.unpads_attention.value),
            fp16_grad_dtype=self.fp16_grad_dtype.value if self.fp16_grad_dtype else None,
            cp_comm=self.cp_comm.value,
            cp_gathers_in_turns=self.cp_gathers_in_turns.value,
            repeats_key_values=self.repeats_key_values.value,
            sorts_copies=self.sorts_copies.value,
            tp_reduce_pieces=self.tp_reduce_pieces.value,
            keeps_gathered_input=self.keeps_gathered_input.value,
            separate_projections=self.separate_projections.value,
            collective_multiprocessors=self.collective_multiprocessors.value,
            gate_apart=self.gate_apart.value,
            sums_whole_gradients=self.sums_whole_gradients.value,
            reduce_dtype=self.reduce_dtype.value if self.reduce_dtype else None,
            whole_messages=self.whole_messages.value,
            broadcasts_weights=self.broadcasts_weights.value,
            gathers_tensor_by_tensor=self.gathers_tensor_by_tensor.value,
            blocks_launches=self.blocks_launches.value,
            dispatcher=self.dispatcher.value,
            sources=self._sources() | {path: self.provenance(number) for path, number in costs.items()},
        )

    def _costs(self, name: str) -> Numbers:
        """Return what was fitted to the stack's own runs, else what it states, else what is typical."""
        stated = {
            "kernel_launch_s": self.kernel_launch,
            "module_call_s": self.module_call,
            "elementwise_slowdown": self.elementwise_slowdown,
            "step_overhead_s": self.step_overhead,
        }
        own = {} if self.like else stack_habits(name)  # those of the other stack are stated already
        return typical_habits() | {key: number for key, number in stated.items() if number is not None} | own

    def _sources(self) -> dict[str, Provenance]:
        numbers: dict[str, Sourced[Any]] = {
            "attention": self.attention,
            "fused": self.fused,
            "overlap": self.overlap,
            "wgrad_overlaps_tp": self.wgrad_overlaps_tp,
            "bucket_bytes": self.bucket,
            "grad_dtype": self.grad_dtype,
            "optimizer_bytes_per_parameter": self.optimizer_bytes_per_parameter,
            "reduction_bytes_per_parameter": self.reduction_bytes_per_parameter,
            "framework_bytes": self.framework_memory,
            "memory_fragmentation": self.memory_fragmentation,
            "reduce_every_microbatch": self.reduce_every_microbatch,
            "unshard_copies": self.unshard_copies,
            "recompute_modules": self.recompute_modules,
            "recompute_stops_early": self.recompute_stops_early,
            "casts_every_pass": self.casts_every_pass,
            "loss_in_place": self.loss_in_place,
            "gathers_logits": self.gathers_logits,
            "holds_last_output": self.holds_last_output,
            "copies_attention_output": self.copies_attention_output,
            "loss_metrics": self.loss_metrics,
            "unpads_attention": self.unpads_attention,
            **({"fp16_grad_dtype": self.fp16_grad_dtype} if self.fp16_grad_dtype else {}),
            "cp_comm": self.cp_comm,
            "cp_gathers_in_turns": self.cp_gathers_in_turns,
            "repeats_key_values": self.repeats_key_values,
            "sorts_copies": self.sorts_copies,
            "tp_reduce_pieces": self.tp_reduce_pieces,
            "keeps_gathered_input": self.keeps_gathered_input,
            "separate_projections": self.separate_projections,
            "collective_multiprocessors": self.collective_multiprocessors,
            "gate_apart": self.gate_apart,
            "sums_whole_gradients": self.sums_whole_gradients,
            **({"reduce_dtype": self.reduce_dtype} if self.reduce_dtype else {}),
            "whole_messages": self.whole_messages,
            "broadcasts_weights": self.broadcasts_weights,
            "gathers_tensor_by_tensor": self.gathers_tensor_by_tensor,
            "blocks_launches": self.blocks_launches,
            "dispatcher": self.dispatcher,
        }
        return {path: self.provenance(number) for path, number in numbers.items()}


def _as_fields(numbers: Numbers) -> dict[str, object]:
    """Return fitted numbers as a file would state them."""
    return {
        key.removesuffix("_s"): {
            "value": f"{number.value:g} s" if key.endswith("_s") else number.value,
            "source": number.source,
            "kind": number.kind,
        }
        for key, number in numbers.items()
    }
