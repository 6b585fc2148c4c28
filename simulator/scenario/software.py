"""A software stack: what it fuses, what it overlaps, what each step costs it."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le

from simulator.scenario.content import content_hash
from simulator.scenario.experts import Dispatcher
from simulator.scenario.parallelism import ContextExchange
from simulator.scenario.provenance import Sources
from simulator.scenario.recompute import RecomputeModule
from simulator.scenario.stated import FITTED, Amount, Assumed, Count, Key, Positive, Share
from simulator.scenario.training import Overlap

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
GradientFormat = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """A training stack's habits; each number has a physical meaning and a source."""

    name: str
    """Catalogue name, for example ``megatron-core``."""
    attention: AttentionKernel
    """Attention kernel it uses unless the scenario says otherwise."""
    fused: frozenset[Fusion]
    """Element-wise operations that it runs as one kernel: any of ``norm``, ``bias_activation``, ``rope``,
    ``dropout_add``, ``softmax``, ``cross_entropy``; ``gated_product``: the backward pass of a gated
    activation makes its result again instead of keeping it; ``gradient_accumulation``: the weight-gradient
    GEMM adds to the accumulated gradient by itself; ``bias_gradient``: it sums the rows of the output
    gradient, too; ``amax``: the kernel that makes a tensor finds the largest value that its cast to fp8
    needs; ``router`` and ``permute``: scores and top-k of a router, and the permutation of tokens, are
    kernels of their own; ``grouped_mlp``: grouped products of experts apply the activation and convert its
    result, forward and backward, before they write it, and one kernel converts the input of all experts."""
    kernel_launch_s: Annotated[float, FITTED]
    """Host time to launch one kernel; a layer cannot run faster than its launches. Typical of all
    stacks unless fitted or stated."""
    overlap: Overlap
    """What it overlaps unless the scenario says otherwise."""
    wgrad_overlaps_tp: bool
    """Whether backward tensor-parallel collectives run beside weight-gradient GEMMs."""
    bucket_bytes: Positive
    """Size of one gradient-reduction bucket."""
    grad_dtype: GradientFormat
    """Number format of gradient accumulation and reduction."""
    step_overhead_s: Annotated[float, FITTED]
    """Fixed time of a step that nothing hides: data, logging, host synchronisation. Typical of all
    stacks unless fitted or stated."""
    optimizer_bytes_per_parameter: Amount
    """HBM traffic of the optimizer step per parameter of the rank's shard."""
    framework_bytes: Annotated[float, Key("framework_memory")]
    """Memory that the framework, CUDA context and communicators hold."""
    memory_fragmentation: Share
    """Memory lost to the allocator, as a share of what comes and goes within a step."""
    reduce_every_microbatch: Annotated[bool, Assumed("as FSDP and ZeRO-2 do unless told otherwise")] = True
    """Whether it reduces gradients after each micro-batch where gradients or parameters are sharded and there
    is no pipeline."""
    unshard_copies: Annotated[bool, Assumed("gathered weights are used where they arrive")] = False
    """Whether gathered weights are copied into the layer's tensors, and gradients out of them, by kernels of
    their own (FSDP2's per-parameter sharding)."""
    recompute_modules: Annotated[tuple[RecomputeModule, ...], Assumed("as Megatron-LM")] = ("core_attn",)
    """What ``recompute: selective`` recomputes unless the scenario says otherwise."""
    recompute_stops_early: Annotated[bool, Assumed("as Megatron-LM, whose checkpoints run again whole")] = (
        False
    )
    """Whether recomputing a layer ends with the last tensor that its backward pass needs, or runs all of its
    forward pass again."""
    casts_every_pass: Annotated[
        bool, Assumed("as Transformer Engine, which caches low-precision weights")
    ] = False
    """Whether low-precision copies of weights are made in every forward pass instead of once per step, and
    other layouts by transposing copies in the backward pass."""
    loss_in_place: Annotated[bool, Assumed("as Megatron's vocabulary-parallel cross entropy")] = True
    """Whether the gradient of the logits overwrites their fp32 soft-max (Megatron's vocabulary-parallel cross
    entropy) or takes memory of its own (eager PyTorch)."""
    gathers_logits: Annotated[bool, Assumed("as Megatron's vocabulary-parallel cross entropy")] = False
    """Whether tensor-parallel ranks gather the logits and each runs the loss over the whole vocabulary, or
    run it over their part of the vocabulary."""
    holds_last_output: Annotated[bool, Assumed("as Megatron, whose last stage puts out a loss")] = False
    """Whether the last stage's output of a micro-batch is still held during the next one."""
    copies_attention_output: Annotated[bool, Assumed("the kernel writes what the projection reads")] = False
    """Whether the result of a fused attention kernel is copied into another layout for the projection behind
    it, so that two copies are kept."""
    loss_metrics: Annotated[Count, Assumed("no metric besides the loss")] = 0
    """Training metrics that compute the loss of every micro-batch again from its logits, not fused and in
    fp32."""
    unpads_attention: Annotated[
        frozenset[AttentionKernel], Assumed("sequences are packed, without padding")
    ] = frozenset()
    """Attention kernels before which it takes padding out of queries, keys and values, and after which it
    puts it back into the result, by copies that run whether there is padding or not."""
    fp16_grad_dtype: Literal["fp32", "fp16"] | None = None
    """Number format of gradient accumulation and reduction where weights are fp16; None: that of others."""
    cp_comm: Annotated[ContextExchange, Assumed("no context parallelism of its own is known")] = "all_gather"
    """How context-parallel ranks see each other's keys and values unless the scenario says it."""
    cp_gathers_in_turns: Annotated[bool, Assumed("one kernel over everything gathered")] = False
    """Whether attention over gathered keys and values runs turn by turn like a ring's, with sums and gradient
    messages in fp32 (PyTorch's ``context_parallel``)."""
    repeats_key_values: Annotated[bool, Assumed("attention kernels take fewer key and value heads")] = False
    """Whether keys and values are copied for each query head that shares them before attention runs and ranks
    exchange them (``repeat_kv``)."""
    sorts_copies: Annotated[bool, Assumed("one kernel reads a token and writes its copies in order")] = False
    """Whether copies of tokens for their experts are made first and sorted then, each way by a pass of its
    own, and added up in fp32 (JAX)."""
    tp_reduce_pieces: Annotated[Count, Assumed("as many as ranks, like the pieces of a gathered input")] = 0
    """Pieces of a matrix multiplication whose result is reduce-scattered meanwhile, by collectives; 0: as
    many as ranks, by messages between neighbours."""
    keeps_gathered_input: Annotated[bool, Assumed("as Megatron since arXiv:2205.05198")] = False
    """Whether the input gathered for a column-parallel layer is kept for its weight gradient instead of being
    gathered again."""
    separate_projections: Annotated[bool, Assumed("as Megatron: one matrix")] = False
    """Whether query, key and value projections, and the gate's, are matrices of their own, with kernels of
    their own and a sum of their input gradients."""
    collective_multiprocessors: Annotated[Count, Assumed("nothing known")] = 0
    """Multiprocessors that a collective takes at most from the kernels beside it; across the network NCCL has
    fewer channels (``costs.channels``)."""
    gate_apart: Annotated[bool, Assumed("as Megatron: one matrix")] = False
    """Whether only the gate and the up projection are layers of their own; without sequence parallelism each
    sums its input gradient over the tensor-parallel ranks."""
    sums_whole_gradients: Annotated[bool, Assumed("arXiv:1910.02054: ZeRO-1 reduce-scatters")] = False
    """Whether ZeRO-1 sums whole gradients on every rank (an all-reduce) before each updates its shard,
    instead of reduce-scattering them."""
    reduction_bytes_per_parameter: Annotated[Amount, Assumed("gradients are reduced where they are made")] = (
        0.0
    )
    """HBM traffic around the reduction of gradients, and the gathering of weights, per parameter of the rank:
    flattening, scaling, casts, copies back, norm."""
    reduce_dtype: Literal["fp32", "bf16", "fp16"] | None = None
    """Number format in which gradients travel unless the scenario says otherwise; None: that in which they
    are accumulated."""
    whole_messages: Annotated[bool, Assumed("as Megatron since arXiv:2104.04473, section 4.1")] = False
    """Whether every tensor-parallel rank sends the whole activation to the next pipeline stage instead of its
    part of it."""
    broadcasts_weights: Annotated[bool, Assumed("equal shards, gathered at once")] = False
    """Whether ZeRO-1 ranks own whole tensors and broadcast them after the update, one owner after the other,
    instead of gathering equal shards."""
    gathers_tensor_by_tensor: Annotated[bool, Assumed("a layer at a time, into one buffer")] = False
    """Whether sharded weights are gathered, and gradients reduced, one tensor at a time, with a copy for
    every rank's part (``torch.distributed.all_gather`` into a list)."""
    blocks_launches: Annotated[bool, Assumed("CUDA launches are asynchronous")] = False
    """Whether the host waits for every kernel before it launches the next one (``CUDA_LAUNCH_BLOCKING``), so
    that launches and kernels take turns."""
    dispatcher: Annotated[Dispatcher, Assumed("as Megatron-Core's moe_token_dispatcher_type")] = "alltoall"
    """Who carries tokens to experts unless the scenario says otherwise."""
    elementwise_slowdown: Annotated[float, Ge(0.5), Le(10), FITTED] = 1.0
    """Time of a layer's memory-bound kernels over that of the bytes listed for them: copies, layout changes
    and casts that its steps do not name. Loss and optimizer are counted whole."""
    module_call_s: Annotated[float, FITTED, Assumed("hidden behind the kernels of earlier modules")] = 0.0
    """Host time to call one module, forward or backward, beside its launches: Python, checks, allocations and
    autograd. A layer cannot run faster than its calls and launches together."""
    sources: Sources = field(default_factory=dict, compare=False, repr=False)
    """Provenance of every field."""

    def __hash__(self) -> int:
        """Hash by content, once for each object."""
        return content_hash(self)
