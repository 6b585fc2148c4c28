"""Putting tokens in the order of their experts, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.operation import Pointwise
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.workload.layers.experts.token_load import TokenFlow

INDEX_BYTES = 4.0
"""One 32-bit index for each copy, kept for the backward pass."""


def spread(flow: TokenFlow, name: str, source: float, target: float, copies: float) -> Pointwise:
    """Return the kernel that writes each token once for each of its experts.

    Fused (Transformer Engine): the index in one kernel and the copy in another; backward, the copies'
    gradients are summed. Eager: sorting the routing map takes three kernels more.

    Args:
        flow: The tokens.
        name: What traces call it.
        source: Bytes read.
        target: Bytes written.
        copies: Copies written.
    """
    if flow.sorts_copies:
        return _sorted_copies(name, source, target, copies)
    kernels = 2 if "permute" in flow.fused else 5
    forward = Elementwise(name=name, bytes_moved=source + target, kernels=kernels)
    backward = Elementwise(name=f"{name}_grad", bytes_moved=source + target, kernels=2)
    return Pointwise(forward=(forward,), backward=(backward,), saved_bytes=INDEX_BYTES * copies)


def gather(flow: TokenFlow, name: str, source: float, target: float) -> Pointwise:
    """Return the kernel that sums the copies of each token.

    Fused: copies are read and tokens written once; probabilities were applied in the experts' activation.
    Eager: a product with the probabilities, which keeps its input, then an addition to zeros in place.

    Args:
        flow: The tokens.
        name: What traces call it.
        source: Bytes of the copies.
        target: Bytes of the tokens.
    """
    if flow.sorts_copies:
        return _weighted_sum(name, source, target)
    fused = "permute" in flow.fused
    forward = Elementwise(
        name=name, bytes_moved=source + target if fused else 5 * source + target, kernels=1 if fused else 3
    )
    backward = Elementwise(
        name=f"{name}_grad",
        bytes_moved=source + target if fused else 4 * source + target,
        kernels=1 if fused else 3,
    )
    return Pointwise(forward=(forward,), backward=(backward,), saved_bytes=0.0 if fused else source)


def _sorted_copies(name: str, source: float, target: float, copies: float) -> Pointwise:
    """Return JAX's passes: copies are written, then read and written in order, and backward the way back."""
    forward = Elementwise(name=name, bytes_moved=source + 3 * target, kernels=2)
    backward = Elementwise(name=f"{name}_grad", bytes_moved=3 * target + source, kernels=2)
    return Pointwise(forward=(forward,), backward=(backward,), saved_bytes=INDEX_BYTES * copies)


def _weighted_sum(name: str, source: float, target: float) -> Pointwise:
    """Return JAX's passes: copies are put in the order of tokens, and their weighted sum reads them.

    Backward, the sum's gradient writes them and reads them for the weights' gradients, in order; then they
    are put back. Casts to fp32 and back are part of these passes.
    """
    forward = Elementwise(name=name, bytes_moved=3 * source + target, kernels=2)
    backward = Elementwise(name=f"{name}_grad", bytes_moved=4 * source + target, kernels=2)
    return Pointwise(forward=(forward,), backward=(backward,), saved_bytes=source)


def sort(name: str, size: float) -> Pointwise:
    """Return the kernel that moves whole chunks, from the order of senders to that of local experts."""
    kernel = Elementwise(name=name, bytes_moved=2 * size)
    return Pointwise(forward=(kernel,), backward=(kernel,))
