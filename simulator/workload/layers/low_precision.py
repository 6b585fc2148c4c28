"""Low-precision recipes: what each quantises, in which layouts, and what that costs in passes over memory.

Every recipe multiplies fp8 or fp4 operands and accumulates in higher precision; norms, activations,
attention, router, embedding, head and loss stay in 16 bits (Transformer Engine; arXiv:2209.05433).

The weight-gradient product reads its operands along the tokens, the others along the width. Hopper's fp8
GEMM takes one layout only, so each tensor is written twice; Blackwell's takes both, so one copy serves where
scales do not depend on the direction (Transformer Engine, ``is_non_tn_fp8_gemm_supported``). Blocks of 32
(MX), of 16 (NVFP4) and of 128 values lie along the inner dimension, so those recipes always write both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.scenario.training import number_format

if TYPE_CHECKING:
    from simulator.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a tensor gets its low precision.

    Attributes:
        element_bytes: One value with its share of the block's scale.
        scales_with_direction: Whether the two layouts hold different values, so both must be written.
        reads_first: Whether the largest value must be found, in a pass of its own, before values are
            converted: scaling by the current tensor.
        history: Whether scales follow from the largest values of earlier steps, which all ranks agree on
            once per step (delayed scaling).
        scales_blocks: Whether scales change along the inner dimension every 128 values.
        gathers_params: Whether weights can travel among data-parallel ranks in the low precision.
        keeps_wide: Whether operands travel and are kept for the backward pass in 16 bits, and are converted
            where a product needs them.
    """

    element_bytes: float
    scales_with_direction: bool = False
    reads_first: bool = False
    history: bool = False
    scales_blocks: bool = False
    gathers_params: bool = True
    keeps_wide: bool = False


_DELAYED = Recipe(element_bytes=1.0, history=True)
_NVFP4 = Recipe(
    element_bytes=0.5 + 1 / 16, scales_with_direction=True, reads_first=True, gathers_params=False
)
RECIPES = {
    # Largest values of the last steps: arXiv:2209.05433, Transformer Engine's DelayedScaling.
    "fp8-delayed": _DELAYED,
    "fp8": _DELAYED,
    # Float8CurrentScaling, and torchao's tensorwise recipe.
    "fp8-current": Recipe(element_bytes=1.0, reads_first=True),
    # One scale for each row of an operand as the product reads it: torchao's ``rowwise`` recipe, whose
    # ``matmul_with_hp_or_float8_args`` keeps 16-bit operands; torchtitan gathers them so ("For rowwise
    # recipes, we use regular TP and all-gather happens in high precision", models/llama3/parallelize.py).
    "fp8-rowwise": Recipe(
        element_bytes=1.0, scales_with_direction=True, gathers_params=False, keeps_wide=True
    ),
    # 1 x 128 and 128 x 128 blocks with fp32 scales: DeepSeek-V3, arXiv:2412.19437, section 3.3.
    "fp8-blockwise": Recipe(element_bytes=1.0 + 4 / 128, scales_with_direction=True, scales_blocks=True),
    # 1 x 32 blocks with one-byte scales: OCP MX specification 1.0; both layouts come from 16 bits, which is
    # what data-parallel ranks gather (Megatron-Core's ``reuse_grad_buf_for_mxfp8_param_ag``).
    "fp8-mx": Recipe(element_bytes=1.0 + 1 / 32, scales_with_direction=True, gathers_params=False),
    # 1 x 16 blocks with one-byte scales below one fp32 scale per tensor: arXiv:2509.25149, section 4.
    "nvfp4": _NVFP4,
    "fp4": _NVFP4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """A recipe on one kind of GPU.

    Attributes:
        recipe: The recipe.
        layouts: Copies of each tensor that are written.
        recasts: Whether weights are converted in every forward pass, and the layouts that only the backward
            pass needs are made there by transposing copies (torchao), instead of all at once (Transformer
            Engine).
        gathers_params: Whether weights arrive in low precision from other data-parallel ranks.
        fuses_amax: Whether the kernel that makes a tensor finds its largest value as well.
        promotes: Whether products apply the scales of blocks outside the matrix units; see ``Gemm``.
    """

    recipe: Recipe
    layouts: int
    recasts: bool = False
    promotes: bool = False
    gathers_params: bool = False
    fuses_amax: bool = False

    @property
    def reads(self) -> int:
        """Return how often a tensor is read to be converted."""
        return 2 if self.recipe.reads_first and not self.fuses_amax else 1

    @property
    def written_bytes(self) -> float:
        """Return the bytes written per value: every layout."""
        return self.layouts * self.recipe.element_bytes


def quantisation(scenario: Scenario) -> Quantisation | None:
    """Return how the scenario's layers are quantised, or None in 16 bits and more.

    fp4 peaks mark the GPUs whose fp8 GEMM reads either layout and whose matrix units apply scales of blocks:
    Blackwell and later.
    """
    recipe = RECIPES.get(scenario.training.precision)
    if recipe is None:
        return None
    reads_either = "fp4" in scenario.cluster.gpu.peak_flop_per_s
    return Quantisation(
        recipe=recipe,
        layouts=1 if reads_either and not recipe.scales_with_direction else 2,
        recasts=scenario.software.casts_every_pass,
        promotes=recipe.scales_blocks and not reads_either,
        gathers_params=scenario.training.low_precision_params and recipe.gathers_params,
        fuses_amax="amax" in scenario.software.fused,
    )


def is_low(precision: str) -> bool:
    """Tell whether a precision quantises the operands of matrix multiplications."""
    return number_format(precision) in {"fp8", "fp4"}


def is_low_layer(scenario: Scenario, layer: int) -> bool:
    """Tell whether a layer is quantised: not the first and last ones that the recipe leaves in 16 bits."""
    training, layers = scenario.training, scenario.model.num_hidden_layers
    return training.bf16_layers_at_start <= layer < layers - training.bf16_layers_at_end
