"""What a vendor's recipes set for all runs of a kind, where a row is silent or its notes miss it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from simulator.scenario.experts import Dispatcher
    from simulator.scenario.training import CudaGraphScope
    from simulator.validation.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A fact about the recipes of some releases.

    Attributes:
        stack: Regular expression for the stack, its release included.
        model: The same for models.
        gpu: The same for accelerators.
        precision: The same for the row's precision.
        source: Where the recipes say it.
        dispatcher: Who carries tokens to experts, or None where that depends on the recipe.
        dispatch_dtype: Number format of tokens on their way there, or None for that of activations.
        cuda_graphs: What graphs launch, or None where that depends on the recipe.
        ep_overlap: Whether another micro-batch hides the exchange of tokens, or None.
        bf16_layers_at_end: Last layers that stay in 16 bits.
        fused: What the software fuses beside its habit; see ``Software``.
        capacity_factor: Tokens that every expert computes over its mean load, or None where none is dropped.
        recompute_modules: What is recomputed where the row does not say.
    """

    stack: str
    source: str
    model: str = ""
    gpu: str = ""
    precision: str = ""
    dispatcher: Dispatcher | None = None
    dispatch_dtype: Literal["fp8"] | None = None
    cuda_graphs: tuple[CudaGraphScope, ...] | None = None
    ep_overlap: bool | None = None
    bf16_layers_at_end: int = 0
    fused: frozenset[str] = frozenset()
    capacity_factor: float | None = None
    recompute_modules: tuple[str, ...] = ()

    def holds(self, row: Row) -> bool:
        """Tell whether a row is one of those runs."""
        facts = (
            (self.stack, row.stack),
            (self.model, row.model),
            (self.gpu, row.gpu),
            (self.precision, row.precision),
        )
        return all(re.match(pattern, fact or "", re.IGNORECASE) for pattern, fact in facts)


NONE = Recipe(stack="", source="")
"""No recipe is known: everything is left to the row and to its stack."""

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        stack=r"maxtext",
        model=r"mixtral",
        gpu=r"tpu-v6e|trillium",
        source="github:AI-Hypercomputer/maxtext benchmarks/maxtext_trillium_model_configs.py, "
        "mixtral_8x7b_dropped and mixtral_8x22b_dropped: capacity_factor 1.25, sparse_matmul off; "
        "remat_policy custom with query, key and value projections offloaded",
        capacity_factor=1.25,
        recompute_modules=("save_qkv",),
    ),
    Recipe(
        stack=r"see notes",
        model=r"deepseek-v3$",
        gpu=r"h800",
        source="DeepSeek's own trainer, arXiv:2412.19437: tokens cross the network once per node (section "
        "3.2.2: the kernels that became DeepEP) and go to their experts in fp8 (3.3.2)",
        dispatcher="deepep",
        dispatch_dtype="fp8",
    ),
    Recipe(
        stack=r"megatron-bridge 25\.09",
        model=r"qwen3-(30b|235b)",
        gpu=r"gb200",
        source="github:NVIDIA-NeMo/Megatron-Bridge r0.1.0 scripts/performance/configs/qwen3: cuda_graphs "
        "true on GB200 for both models, whose token drop keeps shapes fixed and needs NCCL's all-to-all",
        dispatcher="alltoall",
        cuda_graphs=("attn", "moe"),
    ),
    Recipe(
        stack=r"megatron-bridge 26\.",
        model=r"nemotron-3-super",
        precision="nvfp4",
        source="github:NVIDIA-NeMo/Megatron-Bridge v0.4.0 src/megatron/bridge/training/mixed_precision.py, "
        "nemotron_3_super_bf16_with_nvfp4_mixed: num_layers_at_end_in_bf16 14",
        bf16_layers_at_end=14,
    ),
    Recipe(
        stack=r"megatron-bridge 25\.09",
        source="github:NVIDIA-NeMo/Megatron-Bridge r0.1.0 scripts/performance/run_script.py: DeepEP on H100 "
        "for DeepSeek-V3 without token drop only, NCCL's all-to-all elsewhere (HybridEP came with 25.11)",
        dispatcher="alltoall",
    ),
    Recipe(
        stack=r"megatron-bridge 26\.(0[6-9]|1\d)",
        model=r"qwen3-(30b|235b)|gpt-oss-120b|deepseek-v3",
        gpu=r"g?b[23]00",
        precision=r"fp8-mx$",
        source="github:NVIDIA-NeMo/Megatron-Bridge v0.6.0 src/megatron/bridge/perf_recipes: qwen/common.py "
        "_enable_hybridep_full_iteration_mxfp8, gpt_oss/common.py "
        "_apply_gpt_oss_120b_full_iter_fp8mx_configs, deepseek/common.py "
        "_enable_deepseek_full_iteration_mxfp8 (helpers called last in each recipe); v0.5.0 "
        "scripts/performance/configs: cuda_graph_impl full_iteration, moe_a2a_overlap, "
        "cutedsl_fused_grouped_mlp (v0.6.0: use_transformer_engine_op_fuser)",
        dispatcher="hybridep",
        fused=frozenset({"grouped_mlp"}),
        cuda_graphs=("full_iteration",),
        ep_overlap=True,
    ),
)


def recipe_of(row: Row) -> Recipe:
    """Return what is known of the recipe that a row ran, the first that holds."""
    return next((recipe for recipe in RECIPES if recipe.holds(row)), NONE)
