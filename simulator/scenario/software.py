"""A software stack: what it fuses, what it overlaps, what each step costs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from simulator.scenario.content import content_hash

if TYPE_CHECKING:
    from simulator.scenario.experts import Dispatcher
    from simulator.scenario.parallelism import ContextExchange
    from simulator.scenario.provenance import Sources
    from simulator.scenario.training import Overlap


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """A training stack's habits; each number has a physical meaning and a source.

    Attributes:
        name: Catalogue name, for example ``megatron-core``.
        attention: Attention kernel it uses unless the scenario says otherwise.
        fused: Element-wise operations that it runs as one kernel: any of ``norm``, ``bias_activation``,
            ``rope``, ``dropout_add``, ``softmax``, ``cross_entropy``; ``gated_product``: the backward pass of
            a gated activation makes its result again instead of keeping it; ``gradient_accumulation``: the
            weight-gradient GEMM adds to the accumulated gradient by itself; ``bias_gradient``: it sums the
            rows of the output gradient, too; ``amax``: the kernel that makes a tensor finds the largest value
            that its cast to fp8 needs; ``router`` and ``permute``:
            scores and top-k of a router, and the permutation of tokens, are kernels of their own;
            ``grouped_mlp``: grouped products of experts apply the activation and convert its result, forward
            and backward, before they write it, and one kernel converts the input of all experts.
        kernel_launch_s: Host time to launch one kernel; a layer cannot run faster than its launches.
        module_call_s: Host time to call one module, forward or backward, beside its launches: Python, checks,
            allocations and autograd. A layer cannot run faster than its calls and launches together.
        elementwise_slowdown: Time of a layer's memory-bound kernels over that of the bytes listed for them:
            copies, layout changes and casts that its steps do not name. Loss and optimizer are counted whole.
        overlap: What it overlaps unless the scenario says otherwise.
        wgrad_overlaps_tp: Whether backward tensor-parallel collectives run beside weight-gradient GEMMs.
        bucket_bytes: Size of one gradient-reduction bucket.
        grad_dtype: Number format of gradient accumulation and reduction.
        step_overhead_s: Fixed time of a step that nothing hides: data, logging, host synchronisation.
        optimizer_bytes_per_parameter: HBM traffic of the optimizer step per parameter of the rank's shard.
        reduction_bytes_per_parameter: HBM traffic around the reduction of gradients, and the gathering of
            weights, per parameter of the rank: flattening, scaling, casts, copies back, norm.
        framework_bytes: Memory that the framework, CUDA context and communicators hold.
        memory_fragmentation: Memory lost to the allocator, as a share of what comes and goes within a step.
        reduce_every_microbatch: Whether it reduces gradients after each micro-batch where gradients or
            parameters are sharded and there is no pipeline.
        unshard_copies: Whether gathered weights are copied into the layer's tensors, and gradients out of
            them, by kernels of their own (FSDP2's per-parameter sharding).
        recompute_modules: What ``recompute: selective`` recomputes unless the scenario says otherwise.
        recompute_stops_early: Whether recomputing a layer ends with the last tensor that its backward pass
            needs, or runs all of its forward pass again.
        casts_every_pass: Whether low-precision copies of weights are made in every forward pass instead of
            once per step, and other layouts by transposing copies in the backward pass.
        cp_comm: How context-parallel ranks see each other's keys and values unless the scenario says it.
        cp_gathers_in_turns: Whether attention over gathered keys and values runs turn by turn like a ring's,
            with sums and gradient messages in fp32 (PyTorch's ``context_parallel``).
        repeats_key_values: Whether keys and values are copied for each query head that shares them before
            attention runs and ranks exchange them (``repeat_kv``).
        sorts_copies: Whether copies of tokens for their experts are made first and sorted then, each way by a
            pass of its own, and added up in fp32 (JAX).
        tp_reduce_pieces: Pieces of a matrix multiplication whose result is reduce-scattered meanwhile, by
            collectives; 0: as many as ranks, by messages between neighbours.
        keeps_gathered_input: Whether the input gathered for a column-parallel layer is kept for its weight
            gradient instead of being gathered again.
        separate_projections: Whether query, key and value projections, and the gate's, are matrices of their
            own, with kernels of their own and a sum of their input gradients.
        collective_multiprocessors: Multiprocessors that a collective takes at most from the kernels beside
            it; across the network NCCL has fewer channels (``costs.channels``).
        gate_apart: Whether only the gate and the up projection are layers of their own; without sequence
            parallelism each sums its input gradient over the tensor-parallel ranks.
        sums_whole_gradients: Whether ZeRO-1 sums whole gradients on every rank (an all-reduce) before each
            updates its shard, instead of reduce-scattering them.
        reduce_dtype: Number format in which gradients travel unless the scenario says otherwise; None: that
            in which they are accumulated.
        whole_messages: Whether every tensor-parallel rank sends the whole activation to the next pipeline
            stage instead of its part of it.
        broadcasts_weights: Whether ZeRO-1 ranks own whole tensors and broadcast them after the update, one
            owner after the other, instead of gathering equal shards.
        gathers_tensor_by_tensor: Whether sharded weights are gathered, and gradients reduced, one tensor at a
            time, with a copy for every rank's part (``torch.distributed.all_gather`` into a list).
        blocks_launches: Whether the host waits for every kernel before it launches the next one
            (``CUDA_LAUNCH_BLOCKING``), so that launches and kernels take turns.
        dispatcher: Who carries tokens to experts unless the scenario says otherwise.
        loss_in_place: Whether the gradient of the logits overwrites their fp32 soft-max (Megatron's
            vocabulary-parallel cross entropy) or takes memory of its own (eager PyTorch).
        holds_last_output: Whether the last stage's output of a micro-batch is still held during the next one.
        copies_attention_output: Whether the result of a fused attention kernel is copied into another layout
            for the projection behind it, so that two copies are kept.
        gathers_logits: Whether tensor-parallel ranks gather the logits and each runs the loss over the whole
            vocabulary, or run it over their part of the vocabulary.
        loss_metrics: Training metrics that compute the loss of every micro-batch again from its logits, not
            fused and in fp32.
        unpads_attention: Attention kernels before which it takes padding out of queries, keys and values, and
            after which it puts it back into the result, by copies that run whether there is padding or not.
        fp16_grad_dtype: The same where weights are fp16, or None where it does not depend on that.
        sources: Provenance of every field.
    """

    name: str
    attention: str
    fused: frozenset[str]
    kernel_launch_s: float
    overlap: Overlap
    wgrad_overlaps_tp: bool
    bucket_bytes: float
    grad_dtype: str
    step_overhead_s: float
    optimizer_bytes_per_parameter: float
    framework_bytes: float
    memory_fragmentation: float
    reduce_every_microbatch: bool = True
    unshard_copies: bool = False
    recompute_modules: tuple[str, ...] = ("core_attn",)
    recompute_stops_early: bool = False
    casts_every_pass: bool = False
    loss_in_place: bool = True
    gathers_logits: bool = False
    holds_last_output: bool = False
    copies_attention_output: bool = False
    loss_metrics: int = 0
    unpads_attention: frozenset[str] = frozenset()
    fp16_grad_dtype: str | None = None
    cp_comm: ContextExchange = "all_gather"
    cp_gathers_in_turns: bool = False
    repeats_key_values: bool = False
    sorts_copies: bool = False
    tp_reduce_pieces: int = 0
    keeps_gathered_input: bool = False
    separate_projections: bool = False
    collective_multiprocessors: int = 0
    gate_apart: bool = False
    sums_whole_gradients: bool = False
    reduction_bytes_per_parameter: float = 0.0
    reduce_dtype: Literal["fp32", "bf16", "fp16"] | None = None
    whole_messages: bool = False
    broadcasts_weights: bool = False
    gathers_tensor_by_tensor: bool = False
    blocks_launches: bool = False
    dispatcher: Dispatcher = "alltoall"
    elementwise_slowdown: float = 1.0
    module_call_s: float = 0.0
    sources: Sources = field(default_factory=dict, compare=False, repr=False)

    def __hash__(self) -> int:
        """Hash by content, once for each object."""
        return content_hash(self)
