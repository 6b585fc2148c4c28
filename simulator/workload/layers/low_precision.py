"""Low-precision recipes: what each quantises, in which layouts, and what converting operands costs.

Every recipe multiplies fp8 or fp4 operands and accumulates in higher precision; norms, activations,
attention, router, embedding, head and loss stay in 16 bits (Transformer Engine; arXiv:2209.05433).

The weight-gradient product reads its operands along the tokens, the others along the width. Hopper's fp8
GEMM takes one layout only, so each tensor is written twice; Blackwell's takes both, so one copy serves where
scales do not depend on the direction (Transformer Engine, ``is_non_tn_fp8_gemm_supported``). Blocks of 32
(MX), of 16 (NVFP4) and of 128 values lie along the inner dimension, so those recipes always write both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from simulator.scenario.training import number_format
from simulator.workload.layers.operation import Exchange, Pointwise, Step, within
from simulator.workload.work import Collective, Elementwise

if TYPE_CHECKING:
    from collections.abc import Collection

    from simulator.workload.work import Gemm, Group

WIDE_BYTES = 2
"""Bytes of a value in 16 bits, from which operands are converted."""
MODULE = "quantise"
"""What these steps are part of: no module of its own to the host, but the work of the matrix's module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a tensor gets its low precision.

    Attributes:
        dtype: Number format of the operands.
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

    dtype: Literal["fp8", "fp4"] = "fp8"
    element_bytes: float
    scales_with_direction: bool = False
    reads_first: bool = False
    history: bool = False
    scales_blocks: bool = False
    gathers_params: bool = True
    keeps_wide: bool = False


_DELAYED = Recipe(element_bytes=1.0, history=True)
_NVFP4 = Recipe(
    dtype="fp4",
    element_bytes=0.5 + 1 / 16,
    scales_with_direction=True,
    reads_first=True,
    gathers_params=False,
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


def quantisation(
    precision: str,
    gpu_formats: Collection[str],
    *,
    low_precision_params: bool,
    casts_every_pass: bool,
    fuses_amax: bool,
) -> Quantisation | None:
    """Return how layers are quantised, or None in 16 bits and more.

    fp4 peaks mark the GPUs whose fp8 GEMM reads either layout and whose matrix units apply scales of blocks:
    Blackwell and later.

    Args:
        precision: Number format of the matrix multiplications, with the recipe that scales low ones.
        gpu_formats: Number formats that the GPU has a peak in.
        low_precision_params: Whether weights are stored and gathered in the low precision.
        casts_every_pass: Whether the stack converts weights in every forward pass.
        fuses_amax: Whether the stack's kernel that makes a tensor finds its largest value as well.
    """
    recipe = RECIPES.get(precision)
    if recipe is None:
        return None
    reads_either = "fp4" in gpu_formats
    return Quantisation(
        recipe=recipe,
        layouts=1 if reads_either and not recipe.scales_with_direction else 2,
        recasts=casts_every_pass,
        promotes=recipe.scales_blocks and not reads_either,
        gathers_params=low_precision_params and recipe.gathers_params,
        fuses_amax=fuses_amax,
    )


def is_low(precision: str) -> bool:
    """Tell whether a precision quantises the operands of matrix multiplications."""
    return number_format(precision) in {"fp8", "fp4"}


def casts(
    quantisation: Quantisation | None,
    gemm: Gemm,
    tp: Group,
    *,
    input_share: float = 1.0,
    gradient_share: float = 1.0,
) -> list[Step]:
    """Return what happens to the input and to the output gradient of a GEMM before it can run.

    Each is read once and written in every layout that the forward, input-gradient and weight-gradient
    products need (Transformer Engine's ``cast_transpose``). Scaling by the current tensor reads it once more
    to find its largest value. A tensor that is gathered along the sequence is converted before it travels:
    each rank converts its share, the ranks agree on the largest value, and where the GEMM takes one layout
    only, the gathered tensor is transposed.

    Args:
        quantisation: How operands get their low precision, or None.
        gemm: The forward GEMM.
        tp: Tensor-parallel group.
        input_share: Part of the input's rows that this rank converts; less than 1 where they are gathered.
        gradient_share: The same of the output gradient.
    """
    if gemm.dtype not in {"fp8", "fp4"} or quantisation is None:
        return []
    rows = gemm.m * gemm.batch
    if quantisation.recipe.keeps_wide:
        input_share = gradient_share = 1.0
    forward = _conversion(quantisation, rows * gemm.k, input_share, f"{gemm.name}_cast")
    backward = _conversion(quantisation, rows * gemm.n, gradient_share, f"{gemm.name}_grad_cast")
    if gemm.grouped:
        # Transformer Engine's split_quantize: kernels for each expert's rows.
        forward = replace(forward, kernels=forward.kernels * gemm.batch, loops=gemm.batch)
        backward = replace(backward, kernels=backward.kernels * gemm.batch, loops=gemm.batch)
    if quantisation.recasts:
        return within(MODULE, _recasts(quantisation, gemm, input_share, gradient_share))
    steps: list[Step] = [Pointwise(forward=(forward,), backward=(backward,))]
    if input_share == gradient_share == 1.0:
        return within(MODULE, steps)
    transposes = (
        _transpose(quantisation, rows * gemm.k, input_share, f"{gemm.name}_transpose"),
        _transpose(quantisation, rows * gemm.n, gradient_share, f"{gemm.name}_grad_transpose"),
    )
    kernels = tuple(kernel for kernel in transposes if kernel is not None)
    if kernels:
        steps.append(Pointwise(forward=(), backward=kernels))
    if quantisation.recipe.reads_first:
        total = Collective(kind="all_reduce", group=tp, bytes=4.0, name=f"{gemm.name}_amax")
        steps.append(
            Exchange(
                forward=total if input_share < 1 else None,
                backward=total if gradient_share < 1 else None,
                stream="tp",
            )
        )
    return within(MODULE, steps)


def _recasts(quantised: Quantisation, gemm: Gemm, input_share: float, gradient_share: float) -> list[Step]:
    """Return the casts of torchao's tensor-wise scaling: one layout each, others by copies when needed.

    ``float8_linear.py`` keeps the input in fp8; ``preprocess_addmm`` copies operands into the layout that the
    GEMM takes: input and output gradient for the weight gradient, the weight for the input gradient. Weights
    gathered in fp8 were converted, a shard on each rank, before they travelled.
    """
    once = replace(quantised, layouts=1)
    rows, weights = gemm.m * gemm.batch, gemm.batch * gemm.k * gemm.n
    if quantised.recipe.keeps_wide:
        return _casts_per_product(once, gemm)
    forward = [_conversion(once, rows * gemm.k, input_share, f"{gemm.name}_cast")]
    if not quantised.gathers_params:
        # Nothing that makes a weight could find its largest value meanwhile.
        apart = replace(once, fuses_amax=False)
        forward.append(_conversion(apart, weights, 1.0, f"{gemm.name}_weight_cast"))
    backward = [_conversion(once, rows * gemm.n, gradient_share, f"{gemm.name}_grad_cast")]
    if quantised.layouts > 1:
        copied = 2 * quantised.recipe.element_bytes * (rows * (gemm.k + gemm.n) + weights)
        backward.append(Elementwise(name=f"{gemm.name}_transposes", bytes_moved=copied, kernels=3))
    return [Pointwise(forward=tuple(forward), backward=tuple(backward))]


def _casts_per_product(once: Quantisation, gemm: Gemm) -> list[Step]:
    """Return the casts of torchao's row-wise scaling: both operands of each of the three products.

    Scales run along the inner dimension. Where that is contiguous one kernel reads a row, scales and writes
    it; along the other one, one kernel finds the largest values and a second one converts and transposes:
    the weight for the input gradient, input and output gradient for the weight gradient.
    """
    rows, weights = gemm.m * gemm.batch, gemm.batch * gemm.k * gemm.n
    across = replace(once, recipe=replace(once.recipe, reads_first=True), fuses_amax=False)
    forward = (
        _conversion(once, rows * gemm.k, 1.0, f"{gemm.name}_cast"),
        _conversion(once, weights, 1.0, f"{gemm.name}_weight_cast"),
    )
    backward = (
        _conversion(once, rows * gemm.n, 1.0, f"{gemm.name}_grad_cast"),
        _conversion(across, weights, 1.0, f"{gemm.name}_weight_recast"),
        _conversion(across, rows * gemm.n, 1.0, f"{gemm.name}_grad_recast"),
        _conversion(across, rows * gemm.k, 1.0, f"{gemm.name}_recast"),
    )
    return [Pointwise(forward=forward, backward=backward)]


def _conversion(quantisation: Quantisation, elements: float, share: float, name: str) -> Elementwise:
    gathered = share < 1
    layouts = 1 if gathered and not quantisation.recipe.scales_with_direction else quantisation.layouts
    per_element = quantisation.reads * WIDE_BYTES + layouts * quantisation.recipe.element_bytes
    return Elementwise(name=name, bytes_moved=elements * share * per_element, kernels=quantisation.reads)


def _transpose(quantisation: Quantisation, elements: float, share: float, name: str) -> Elementwise | None:
    if share == 1 or quantisation.recipe.scales_with_direction or quantisation.layouts == 1:
        return None
    return Elementwise(name=name, bytes_moved=2 * elements * quantisation.recipe.element_bytes)
