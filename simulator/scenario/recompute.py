"""What the backward pass computes again, and what waits in host memory meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Recompute = Literal["none", "selective", "full"]
RecomputeModule = Literal[
    "core_attn",
    "layernorm",
    "mla_up_proj",
    "mlp",
    "moe",
    "moe_act",
    "shared_experts",
    "per_op",
    "save_attention",
    "save_dots",
    "save_qkv",
]
RecomputeMethod = Literal["uniform", "block", "every"]
OffloadModule = Literal[
    "all", "attn_norm", "core_attn", "attn_proj", "mlp_norm", "mlp", "moe", "expert_fc1", "moe_act"
]
OptimizerOffload = Literal["none", "stream", "cpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecomputeDetail:
    """Which layers, or which modules of a layer, are recomputed.

    Attributes:
        modules: With ``selective``: modules that run again (Megatron-Core's ``recompute_modules``), or one
            policy for the whole layer: ``per_op`` (torchtitan: attention and every other matrix product are
            kept), ``save_qkv`` (MaxText ``save_qkv_proj``: only query, key and value are kept),
            ``save_attention`` (these and the result of attention, MaxText's ``context``) or
            ``save_dots`` (MaxText ``minimal``: every matrix product is kept).
        method: With ``full``: ``uniform`` keeps the input of every group of ``num_layers`` layers, ``block``
            recomputes the first ``num_layers`` layers of each stage, ``every`` recomputes one layer in each
            ``num_layers`` (torchtitan's selective checkpointing of layers).
        num_layers: See ``method``; None is 1, or all layers of a stage for ``block``.
        distribute_saved: Whether tensor-parallel ranks share the inputs kept by ``full`` (Megatron-Core's
            ``distribute_saved_activations``); they are gathered before the recomputation.
    """

    modules: tuple[RecomputeModule, ...] = ("core_attn",)
    method: RecomputeMethod = "uniform"
    num_layers: int | None = None
    distribute_saved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Offload:
    """What is kept in host memory and copied back in time, beside computation.

    Attributes:
        modules: Modules whose saved activations are copied out; empty: none.
        num_layers: Layers of each stage, from the first, whose activations are copied out; None: all but the
            last, whose backward pass comes at once.
        optimizer: ``stream``: optimizer state is copied in, updated by the GPU and copied out; ``cpu``: the
            host updates its part from gradients and sends weights back; ``none``.
        optimizer_fraction: Share of the parameters whose state lives in host memory.
        optimizer_overlap: Whether the copies of one bucket run beside the update of another.
    """

    modules: tuple[OffloadModule, ...] = ()
    num_layers: int | None = None
    optimizer: OptimizerOffload = "none"
    optimizer_fraction: float = 1.0
    optimizer_overlap: bool = True
