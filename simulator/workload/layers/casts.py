"""Converting the operands of low-precision matrix multiplications: casts, transposes, largest values."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.workload.layers.operation import Exchange, Pointwise, Step, within
from simulator.workload.work import Collective, Elementwise, Gemm

if TYPE_CHECKING:
    from simulator.workload.layers.local_sizes import Shapes
    from simulator.workload.layers.low_precision import Quantisation


MODULE = "quantise"
"""What these steps are part of: no module of its own to the host, but the work of the matrix's module."""


def casts(
    shapes: Shapes,
    gemm: Gemm,
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
        shapes: Sizes of the rank's share.
        gemm: The forward GEMM.
        input_share: Part of the input's rows that this rank converts; less than 1 where they are gathered.
        gradient_share: The same of the output gradient.
    """
    if gemm.dtype not in {"fp8", "fp4"} or shapes.quantisation is None:
        return []
    rows = gemm.m * gemm.batch
    quantisation = shapes.quantisation
    if quantisation.recipe.keeps_wide:
        input_share = gradient_share = 1.0
    there = _conversion(shapes, quantisation, rows * gemm.k, input_share, f"{gemm.name}_cast")
    back = _conversion(shapes, quantisation, rows * gemm.n, gradient_share, f"{gemm.name}_grad_cast")
    if gemm.grouped:
        # Transformer Engine's split_quantize: kernels for each expert's rows.
        there = replace(there, kernels=there.kernels * gemm.batch, loops=gemm.batch)
        back = replace(back, kernels=back.kernels * gemm.batch, loops=gemm.batch)
    if quantisation.recasts:
        return within(MODULE, _recasts(shapes, quantisation, gemm, input_share, gradient_share))
    steps: list[Step] = [Pointwise(forward=(there,), backward=(back,))]
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
        total = Collective(kind="all_reduce", group=shapes.tp, bytes=4.0, name=f"{gemm.name}_amax")
        steps.append(
            Exchange(
                forward=total if input_share < 1 else None,
                backward=total if gradient_share < 1 else None,
                stream="tp",
            )
        )
    return within(MODULE, steps)


def _recasts(
    shapes: Shapes, quantised: Quantisation, gemm: Gemm, input_share: float, gradient_share: float
) -> list[Step]:
    """Return the casts of torchao's tensor-wise scaling: one layout each, others by copies when needed.

    ``float8_linear.py`` keeps the input in fp8; ``preprocess_addmm`` copies operands into the layout that the
    GEMM takes: input and output gradient for the weight gradient, the weight for the input gradient. Weights
    gathered in fp8 were converted, a shard on each rank, before they travelled.
    """
    once, each = replace(quantised, layouts=1), quantised.recipe.element_bytes
    rows, weights = gemm.m * gemm.batch, gemm.batch * gemm.k * gemm.n
    if quantised.recipe.keeps_wide:
        return _casts_for_each_product(shapes, once, gemm)
    there = [_conversion(shapes, once, rows * gemm.k, input_share, f"{gemm.name}_cast")]
    if not quantised.gathers_params:
        # Nothing that makes a weight could find its largest value meanwhile.
        apart = replace(once, fuses_amax=False)
        there.append(_conversion(shapes, apart, weights, 1.0, f"{gemm.name}_weight_cast"))
    back = [_conversion(shapes, once, rows * gemm.n, gradient_share, f"{gemm.name}_grad_cast")]
    if quantised.layouts > 1:
        copied = 2 * each * (rows * (gemm.k + gemm.n) + weights)
        back.append(Elementwise(name=f"{gemm.name}_transposes", bytes_moved=copied, kernels=3))
    return [Pointwise(forward=tuple(there), backward=tuple(back))]


def _casts_for_each_product(shapes: Shapes, once: Quantisation, gemm: Gemm) -> list[Step]:
    """Return the casts of torchao's row-wise scaling: both operands of each of the three products.

    Scales run along the inner dimension. Where that is contiguous one kernel reads a row, scales and writes
    it; along the other one, one kernel finds the largest values and a second one converts and transposes:
    the weight for the input gradient, input and output gradient for the weight gradient.
    """
    rows, weights = gemm.m * gemm.batch, gemm.batch * gemm.k * gemm.n
    across = replace(once, recipe=replace(once.recipe, reads_first=True), fuses_amax=False)
    forward = (
        _conversion(shapes, once, rows * gemm.k, 1.0, f"{gemm.name}_cast"),
        _conversion(shapes, once, weights, 1.0, f"{gemm.name}_weight_cast"),
    )
    backward = (
        _conversion(shapes, once, rows * gemm.n, 1.0, f"{gemm.name}_grad_cast"),
        _conversion(shapes, across, weights, 1.0, f"{gemm.name}_weight_recast"),
        _conversion(shapes, across, rows * gemm.n, 1.0, f"{gemm.name}_grad_recast"),
        _conversion(shapes, across, rows * gemm.k, 1.0, f"{gemm.name}_recast"),
    )
    return [Pointwise(forward=forward, backward=backward)]


def _conversion(
    shapes: Shapes, quantisation: Quantisation, elements: float, share: float, name: str
) -> Elementwise:
    gathered = share < 1
    layouts = 1 if gathered and not quantisation.recipe.scales_with_direction else quantisation.layouts
    per_element = quantisation.reads * shapes.element_bytes + layouts * quantisation.recipe.element_bytes
    return Elementwise(name=name, bytes_moved=elements * share * per_element, kernels=quantisation.reads)


def _transpose(quantisation: Quantisation, elements: float, share: float, name: str) -> Elementwise | None:
    if share == 1 or quantisation.recipe.scales_with_direction or quantisation.layouts == 1:
        return None
    return Elementwise(name=name, bytes_moved=2 * elements * quantisation.recipe.element_bytes)
