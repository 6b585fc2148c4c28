"""Memory-bound steps of a layer, fused or not as the software stack does it.

Byte counts per element follow from what each kernel reads and writes; an unfused operation is written out as
the eager framework runs it. Chains of eager kernels with casts, broadcasts and strided halves were timed on
an H100 (``simulator measure`` and the same calls, PyTorch 2.11, 8,192 tokens, bf16, 2.95 TB/s):

    RMSNorm of 4,096 values in fp32    529 us forward    1,307 us backward
    rotary embedding of 32 x 128       447 us forward      470 us backward
    SwiGLU of two halves of 28,672     670 us forward    1,340 us backward

The norm's kernels move 36 and 94 bytes per element and take as long as 46 and 115 would stream there; the
others have the bytes that stream in the time that they took, times the same 0.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.operation import Pointwise, Step
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.workload.layers.architecture import Architecture, KernelOptions
    from simulator.workload.layers.local_sizes import LocalSizes

_EAGER_NORM = (36.0, 94.0)
_EAGER_ROPE = (31.0, 33.0)
_EAGER_GATE_OF_HALVES = (13.5, 27.0)
"""Bytes per element of eager chains in 16 bits, forward and backward (see above)."""


def norm(sizes: LocalSizes, kernels: KernelOptions, name: str, width: int) -> Pointwise:
    """Return a norm over ``divided_tokens x width``.

    Fused with the gradient of its weights (Transformer Engine, XLA): forward reads and writes each element
    once; backward reads the input and the output gradient and writes the input gradient. Fused otherwise
    (PyTorch, Apex): two passes over the input forward, two over both inputs backward, and another kernel
    reads both for the weights (github:pytorch/pytorch aten/src/ATen/native/cuda/layer_norm_kernel.cu; an
    H100 takes 64 us and 163 us for 8,192 x 4,096, which these bytes are at 2.95 TB/s). Unfused (eager, in
    fp32): squares, mean, root, products and casts; the input in fp32 and the normalised values wait for the
    backward pass instead of the input, which has three gradients in fp32 at once.
    """
    elements = sizes.divided_tokens * width
    e = sizes.element_bytes
    fused = "norm" in kernels.fused
    if not fused:
        forward, backward = _EAGER_NORM
    elif "norm_gradient" in kernels.fused:
        forward, backward = 2 * e, 3 * e
    else:
        forward, backward = 3 * e, 7 * e
    count = 1 if fused else 8
    return Pointwise(
        forward=(Elementwise(name=name, bytes_moved=elements * forward, kernels=count),),
        backward=(Elementwise(name=f"{name}_grad", bytes_moved=elements * backward, kernels=2 * count),),
        saved_bytes=elements * (e if fused else 4 + e),
        working_bytes=elements * (2 * e if fused else 3 * 4),
    )


def rope(sizes: LocalSizes, kernels: KernelOptions, heads: int, width: int) -> Pointwise:
    """Return the rotary embedding of ``heads`` query and key heads of ``width`` elements.

    Fused: one read and one write. Unfused: two products, a rotation with its copy, and a sum; backward two
    products, a negation, two halves that are put into a cleared tensor each, and two sums.
    """
    elements = sizes.tokens * heads * width
    once = 2 * sizes.element_bytes
    fused = "rope" in kernels.fused
    there_bytes, back_bytes = (eager * sizes.element_bytes / 2 for eager in _EAGER_ROPE)
    forward, backward = ((once, 1), (once, 1)) if fused else ((there_bytes, 5), (back_bytes, 9))
    there, back = (
        Elementwise(name="rope", bytes_moved=elements * per_element, kernels=2 * count)
        for per_element, count in (forward, backward)
    )
    return Pointwise(forward=(there,), backward=(back,))


def activation(
    sizes: LocalSizes, kernels: KernelOptions, rows: float, width: int, *, gated: bool
) -> Pointwise:
    """Return the feed-forward activation with ``rows x width`` results.

    Gated and fused: forward reads two and writes one element, backward reads three and writes two; plain:
    reads one and writes one, backward reads two and writes one. Unfused, a gate's product is its own pass;
    where one product makes gate and value, both are strided halves of its result.
    """
    elements = rows * width
    e = sizes.element_bytes
    forward, backward = (3 * e, 5 * e) if gated else (2 * e, 3 * e)
    fused = "bias_activation" in kernels.fused or not gated
    if not fused and kernels.has_separate_gate:
        forward, backward = forward + 2 * e, backward + 3 * e
    elif not fused:
        forward, backward = (eager * e / 2 for eager in _EAGER_GATE_OF_HALVES)
    if remakes_product(kernels, gated=gated):
        backward += e
    count = 1 if fused else 2
    # Unfused, the product's two operands and the activation's input are kept.
    kept = 2 if fused else 3
    return Pointwise(
        forward=(Elementwise(name="activation", bytes_moved=elements * forward, kernels=count),),
        backward=(Elementwise(name="activation_grad", bytes_moved=elements * backward, kernels=count),),
        saved_bytes=elements * (kept if gated else 1) * e,
    )


def remakes_product(kernels: KernelOptions, *, gated: bool) -> bool:
    """Tell whether the activation's backward kernel makes its result again instead of keeping it.

    xFormers' fused SwiGLU keeps the gate and the up projection only (``silu_bw_fused`` returns the product).
    """
    return gated and "gated_product" in kernels.fused


def residual(sizes: LocalSizes, model: Architecture, kernels: KernelOptions) -> Pointwise:
    """Return the residual addition: two reads and one write; backward sums the two branches' gradients.

    Dropout makes another gradient of its own from the sum's and the mask; its one-byte mask is kept as well.
    """
    elements = sizes.divided_tokens * model.hidden_size
    e = sizes.element_bytes
    has_dropout = model.residual_dropout
    mask = elements if has_dropout else 0
    fused = "dropout_add" in kernels.fused or not has_dropout
    forward = 3 * e * elements + mask if fused else 7 * e * elements + mask
    kernel = Elementwise(name="residual", bytes_moved=forward, kernels=1 if fused else 3)
    # The branch's own gradient: read, masked, written.
    branch = 2 * e if has_dropout else 0
    gradient = Elementwise(
        name="residual_grad",
        bytes_moved=(3 * e + branch) * elements + mask,
        kernels=2 if has_dropout else 1,
    )
    return Pointwise(forward=(kernel,), backward=(gradient,), saved_bytes=mask)


def bias_gradient(
    sizes: LocalSizes, kernels: KernelOptions, name: str, rows: int, width: int, *, has_bias: bool
) -> list[Step]:
    """Return the sum of an output gradient over ``rows`` tokens: the gradient of a bias of ``width`` values.

    Backward, stacks without a GEMM that sums the rows meanwhile (cublasLt's ``BGRADB``, as Transformer Engine
    uses it) read the output gradient once more. Forward, the kernel behind the projection adds the bias, or
    the GEMM does it, or ``bias_sum``.
    """
    if not has_bias or "bias_gradient" in kernels.fused:
        return []
    kernel = Elementwise(name=f"{name}_bias_grad", bytes_moved=rows * width * sizes.element_bytes)
    return [Pointwise(forward=(), backward=(kernel,))]


def bias_sum(
    sizes: LocalSizes, kernels: KernelOptions, name: str, width: int, *, has_bias: bool
) -> list[Step]:
    """Return the addition of a bias that no kernel behind the projection adds: query, key and value.

    Stacks whose GEMMs sum bias gradients (Transformer Engine) add the bias in the GEMM as well; Megatron-LM's
    own ``linear_with_grad_accumulation_and_async_allreduce`` reads and writes the output once more.
    """
    if not has_bias or "bias_gradient" in kernels.fused:
        return []
    size = 2.0 * sizes.tokens * width * sizes.element_bytes
    return [Pointwise(forward=(Elementwise(name=f"{name}_bias", bytes_moved=size),), backward=())]
