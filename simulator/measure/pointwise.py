"""Memory-bound kernels as PyTorch runs them, fused by its compiler where the software stack has them fused.

Kernels that are not listed here run as copies of as many bytes, half read and half written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.workload.shapes import shapes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.scenario import Scenario
    from simulator.workload.work import Elementwise

    Tensor = Any  # torch.Tensor; PyTorch is the user's own and imported late
    Function = Callable[..., Tensor]


def pointwise(work: Elementwise, scenario: Scenario, device: str) -> Callable[[], object]:
    """Return a call that does the work: the operation itself where it is listed, else copies."""
    name, backward = work.name.removesuffix("_grad"), work.name.endswith("_grad")
    made = _listed(name, scenario, device)
    if made is None:
        return copies(work, device)
    function, inputs = made
    if not backward or name == "residual":
        # Backward, the gradients of a residual's two branches are added as well.
        return lambda: function(*inputs)
    leaves = [tensor.requires_grad_() for tensor in inputs]
    result = function(*leaves)
    gradient = _like(result)
    return lambda: _gradients(result, leaves, gradient)


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


def _kind(name: str, scenario: Scenario) -> str | None:
    if name.endswith("_norm"):
        return "norm"
    if name == "activation" and scenario.model.experts is None:
        return "gated" if scenario.model.gated else "plain"
    return name if name == "residual" and not scenario.model.residual_dropout else None


def _listed(name: str, scenario: Scenario, device: str) -> tuple[Function, list[Tensor]] | None:
    """Return a function and its inputs, both of this rank's sizes."""
    import torch  # noqa: PLC0415  the user's own

    kind, shapes, fused = _kind(name, scenario), shapes_of(scenario), scenario.software.fused
    dtype = torch.float16 if shapes.dtype == "fp16" else torch.bfloat16

    def tensor(*size: int) -> Tensor:
        return torch.randn(*size, device=device, dtype=dtype)

    hidden = scenario.model.hidden_size
    functional = torch.nn.functional
    if kind == "norm":
        # PyTorch's own kernels are fused; written out in fp32 it is what eager stacks run.
        inputs = [tensor(shapes.divided_tokens, hidden), tensor(hidden)]
        if scenario.model.norm == "layernorm":
            return lambda x, w: functional.layer_norm(x, (hidden,), w), inputs
        return (
            lambda x, w: functional.rms_norm(x, (hidden,), w)
        ) if "norm" in fused else _norm_in_fp32, inputs
    if kind == "residual":
        return torch.add, [tensor(shapes.divided_tokens, hidden), tensor(shapes.divided_tokens, hidden)]
    if kind == "gated":
        both = tensor(shapes.tokens, 2 * shapes.intermediate)
        compiled = "bias_activation" in fused and device == "cuda"
        return (torch.compile(_gated, dynamic=False) if compiled else _gated), [both]
    if kind == "plain":
        return functional.gelu, [tensor(shapes.tokens, shapes.intermediate)]
    return None


def _norm_in_fp32(states: Tensor, weight: Tensor) -> Tensor:
    wide = states.float()
    return (wide * (wide.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt()).type_as(states) * weight


def _gated(both: Tensor) -> Tensor:
    import torch  # noqa: PLC0415  the user's own

    gate, raised = both.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * raised


def _like(result: Tensor) -> Tensor:
    import torch  # noqa: PLC0415  the user's own

    return torch.randn_like(result)


def _gradients(result: Tensor, leaves: list[Tensor], gradient: Tensor) -> object:
    import torch  # noqa: PLC0415  the user's own

    return torch.autograd.grad(result, leaves, gradient, retain_graph=True)
