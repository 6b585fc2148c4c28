"""The matrix products of a rank's experts: in one grouped call, or one expert after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.workload.layers.elementwise import activation, remakes_product
from simulator.workload.layers.low_precision import casts
from simulator.workload.layers.operation import Linear, Pointwise, Step, within
from simulator.workload.work import Elementwise, Gemm

if TYPE_CHECKING:
    from simulator.workload.layers.architecture import Architecture, KernelOptions
    from simulator.workload.layers.experts.token_load import ExpertOptions, TokenFlow
    from simulator.workload.layers.local_sizes import LocalSizes


def expert_products(
    sizes: LocalSizes, model: Architecture, kernels: KernelOptions, options: ExpertOptions, flow: TokenFlow
) -> list[Step]:
    """Return the feed-forward blocks of the rank's experts."""
    if model.experts is None:
        return []
    local = model.experts.num_experts // flow.ep.size
    width = model.experts.moe_intermediate_size // flow.etp.size
    rows = flow.rows // local
    batch = local if options.training.grouped_gemm else 1
    has_bias = model.linear_bias and options.adds_bias_apart
    block = _block(sizes, kernels, flow, rows, width, batch=batch, gated=model.gated)
    bias = _bias(batch, rows, flow.width) if has_bias else []
    return [*block, *bias] * (local // batch)


def _block(
    sizes: LocalSizes,
    kernels: KernelOptions,
    flow: TokenFlow,
    rows: int,
    width: int,
    *,
    batch: int,
    gated: bool,
) -> list[Step]:
    up_width = 2 * width if gated else width
    up = _product(sizes, "expert_up", rows, up_width, flow.width, batch=batch)
    down = _product(sizes, "expert_down", rows, flow.width, width, batch=batch)
    operand, computed = sizes.operand_bytes, rows * batch
    kept = 0.0 if remakes_product(kernels, gated=gated) else computed * width * operand
    kept_input = Linear(forward=up, saved_bytes=computed * flow.width * operand)
    if batch > 1 and "grouped_mlp" in kernels.fused and sizes.quantisation is not None:
        return [
            *_one_way(casts(sizes.quantisation, up, sizes.tp), forward=True),
            kept_input,
            *within("moe_act", [_fused_activation(sizes, kernels, computed, width, gated=gated)]),
            *_one_way(casts(sizes.quantisation, down, sizes.tp), forward=False),
            Linear(forward=down, saved_bytes=kept),
        ]
    first = [*casts(sizes.quantisation, up, sizes.tp), kept_input]
    return [
        *within("expert_fc1", first),
        *within("moe_act", [activation(sizes, kernels, computed, width, gated=gated)]),
        *casts(sizes.quantisation, down, sizes.tp),
        Linear(forward=down, saved_bytes=kept),
    ]


def _one_way(steps: list[Step], *, forward: bool) -> list[Step]:
    """Return the casts of one direction, those of all experts in one kernel."""
    return [
        replace(
            step,
            forward=tuple(map(_together, step.forward)) if forward else (),
            backward=() if forward else tuple(map(_together, step.backward)),
        )
        for step in steps
        if isinstance(step, Pointwise)
    ]


def _together(kernel: Elementwise) -> Elementwise:
    return replace(kernel, kernels=kernel.kernels // kernel.loops, loops=1)


def _fused_activation(
    sizes: LocalSizes, kernels: KernelOptions, rows: int, width: int, *, gated: bool
) -> Pointwise:
    """Return what an activation inside the grouped products still moves.

    Forward, the first product writes the activation's result converted, beside its own. Backward, the second
    one's input gradient reads the first one's result and writes the gradient of it converted (Transformer
    Engine's grouped MLP on cuDNN's CuTe kernels, Megatron-Bridge's ``cutedsl_fused_grouped_mlp``).
    """
    written = sizes.quantisation.written_bytes if sizes.quantisation is not None else 0.0
    inputs = rows * width * (2 if gated else 1)
    plain = activation(sizes, kernels, rows, width, gated=gated)
    return replace(
        plain,
        forward=(Elementwise(name="activation", bytes_moved=rows * width * written),),
        backward=(Elementwise(name="activation_grad", bytes_moved=inputs * (written + sizes.element_bytes)),),
    )


def _bias(batch: int, rows: int, width: int) -> list[Step]:
    """Return the addition of each expert's bias, weighted by the router, to its results, in fp32.

    Megatron-Core runs a product, a sum, a concatenation and a cast (core_v0.16.0, ``_apply_bias`` of
    ``TEGroupedMLP`` in megatron/core/transformer/moe/experts.py): per value they move 28 bytes forward and 40
    backward, where biases and weights of copies get gradients.
    """
    values = batch * rows * width
    forward = Elementwise(name="expert_bias", bytes_moved=28.0 * values, kernels=2 * batch + 2)
    backward = Elementwise(name="expert_bias_grad", bytes_moved=40.0 * values, kernels=5 * batch + 1)
    return [Pointwise(forward=(forward,), backward=(backward,))]


def _product(sizes: LocalSizes, name: str, rows: int, n: int, k: int, *, batch: int) -> Gemm:
    return Gemm(
        name=name,
        m=rows,
        n=n,
        k=k,
        batch=batch,
        dtype=sizes.gemm_dtype,
        grouped=batch > 1,
        promotes=sizes.promotes,
    )
