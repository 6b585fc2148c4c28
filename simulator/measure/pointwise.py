"""Memory-bound kernels as PyTorch runs them, fused by its compiler where the software stack has them fused.

Kernels that are not listed here run as copies of as many bytes, half read and half written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.workload.layers.architecture import Architecture
    from simulator.workload.layers.local_sizes import LocalSizes
    from simulator.workload.layers.settings import LayerSettings
    from simulator.workload.work import Elementwise

    Tensor = Any  # torch.Tensor; PyTorch is the user's own and imported late
    Function = Callable[..., Tensor]
    Sizes = list[tuple[int, ...]]


def pointwise(work: Elementwise, settings: LayerSettings, norm: str, device: str) -> Callable[[], object]:
    """Return a call that does the work: the operation itself where it is listed, else copies.

    Args:
        work: A kernel of a layer.
        settings: The layers' settings, whose local sizes the operation's tensors have.
        norm: The model's normalisation: ``rmsnorm`` or ``layernorm``.
        device: ``cuda`` or ``cpu``.
    """
    name, backward = work.name.removesuffix("_grad"), work.name.endswith("_grad")
    made = _listed(_kind(name, settings.model, norm), settings, device)
    if made is None:
        return copies(work, device)
    function, inputs = made
    if not backward or name == "residual":
        # Backward, the gradients of a residual's two branches are added as well.
        return lambda: function(*inputs)
    leaves = [tensor.requires_grad_() for tensor in inputs]
    result = function(*leaves)
    return _backward(result, leaves)


def copies(work: Elementwise, device: str) -> Callable[[], object]:
    """Return copies of the work's bytes in as many kernels."""
    import torch  # noqa: PLC0415  the user's own

    count = max(1, int(work.bytes_moved / 2 / work.kernels / 2))
    source = torch.randn(count, device=device).to(torch.bfloat16)
    target = torch.empty_like(source)

    def run() -> None:
        for _ in range(work.kernels):
            target.copy_(source)

    return run


def _kind(name: str, model: Architecture, norm: str) -> str | None:
    """Return which of the listed operations an elementwise kernel is, or None."""
    if name.endswith("_norm"):
        return "layernorm" if norm == "layernorm" else "rmsnorm"
    if name == "activation" and model.experts is None:
        return "gated" if model.gated else "plain"
    if name == "residual" and model.residual_dropout:
        return None
    return name if name in {"residual", "rope", "embedding"} else None


def _listed(kind: str | None, settings: LayerSettings, device: str) -> tuple[Function, list[Tensor]] | None:
    """Return a function and its inputs, both of this rank's sizes."""
    import torch  # noqa: PLC0415  the user's own

    local = settings.sizes
    dtype = torch.float16 if local.dtype == "fp16" else torch.bfloat16
    sizes, inner = _SIZES[kind](local, settings.model) if kind else ([], [])
    inputs, more = ([torch.randn(*size, device=device, dtype=dtype) for size in of] for of in (sizes, inner))
    function = _function(kind, local, settings.kernels.fused, device)
    return None if function is None else (lambda *given: function(*given, *more), inputs)


def _norm_sizes(local: LocalSizes, model: Architecture) -> tuple[Sizes, Sizes]:
    return [(local.divided_tokens, model.hidden_size), (model.hidden_size,)], []


_SIZES: dict[str, Callable[[LocalSizes, Architecture], tuple[Sizes, Sizes]]] = {
    "layernorm": _norm_sizes,
    "rmsnorm": _norm_sizes,
    "residual": lambda local, model: ([(local.divided_tokens, model.hidden_size)] * 2, []),
    "rope": lambda local, model: (
        [(local.tokens, local.heads + local.kv_heads, model.head_dim)],
        [(local.tokens, 1, model.head_dim)] * 2,
    ),
    "embedding": lambda local, model: ([(local.vocabulary, model.hidden_size)], []),
    "gated": lambda local, _: ([(local.tokens, 2 * local.intermediate)], []),
    "plain": lambda local, _: ([(local.tokens, local.intermediate)], []),
}
"""Sizes of the tensors that an operation has gradients for, and of those that it has none for."""


def _function(kind: str | None, local: LocalSizes, fused: frozenset[str], device: str) -> Function | None:
    """Return an operation as the software stack has it: fused, or eager."""
    import torch  # noqa: PLC0415  the user's own

    functional = torch.nn.functional
    if kind == "layernorm":
        return lambda x, w: functional.layer_norm(x, w.shape, w)
    if kind == "rmsnorm":
        return _rms_norm if "norm" in fused else _norm_in_fp32
    if kind == "rope":
        return _compiled(_rotated, device) if "rope" in fused else _rotated
    if kind == "embedding":
        tokens = torch.randint(0, local.vocabulary, (local.tokens,), device=device)
        return lambda table: functional.embedding(tokens, table)
    if kind == "gated":
        return _compiled(_gated, device) if "bias_activation" in fused else _gated
    return {"residual": torch.add, "plain": functional.gelu}.get(kind or "")


def _compiled(function: Function, device: str) -> Function:
    """Return a function as PyTorch's compiler fuses it for one shape; on the processor as it is."""
    import torch  # noqa: PLC0415  the user's own

    return torch.compile(function, dynamic=False) if device == "cuda" else function  # type: ignore[no-any-return, unused-ignore]


def _rotated(states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    import torch  # noqa: PLC0415  the user's own

    first, second = states.chunk(2, dim=-1)
    return states * cosines + torch.cat((-second, first), dim=-1) * sines


def _rms_norm(states: Tensor, weight: Tensor) -> Tensor:
    import torch  # noqa: PLC0415  the user's own

    return torch.nn.functional.rms_norm(states, weight.shape, weight)


def _norm_in_fp32(states: Tensor, weight: Tensor) -> Tensor:
    """Return RMSNorm as eager stacks write it out."""
    wide = states.float()
    return (wide * (wide.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt()).type_as(states) * weight


def _gated(both: Tensor) -> Tensor:
    import torch  # noqa: PLC0415  the user's own

    gate, raised = both.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * raised


def _backward(result: Tensor, leaves: list[Tensor]) -> Callable[[], object]:
    import torch  # noqa: PLC0415  the user's own

    gradient = torch.randn_like(result)
    return lambda: torch.autograd.grad(result, leaves, gradient, retain_graph=True)
