"""Memory-bound kernels as PyTorch runs them, fused by its compiler where the software stack has them fused.

Kernels that are not listed here run as copies of as many bytes, half read and half written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.workload.layers.local_sizes import local_sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.scenario import Scenario
    from simulator.workload.layers.local_sizes import LocalSizes
    from simulator.workload.work import Elementwise

    Tensor = Any  # torch.Tensor; PyTorch is the user's own and imported late
    Function = Callable[..., Tensor]
    Sizes = list[tuple[int, ...]]


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


def _kind(name: str, scenario: Scenario) -> str | None:
    if name.endswith("_norm"):
        return "norm"
    if name == "activation" and scenario.model.experts is None:
        return "gated" if scenario.model.gated else "plain"
    if name == "residual" and scenario.model.residual_dropout:
        return None
    return name if name in {"residual", "rope", "embedding"} else None


def _listed(name: str, scenario: Scenario, device: str) -> tuple[Function, list[Tensor]] | None:
    """Return a function and its inputs, both of this rank's sizes."""
    import torch  # noqa: PLC0415  the user's own

    kind, shapes = _kind(name, scenario), local_sizes(scenario)
    dtype = torch.float16 if shapes.dtype == "fp16" else torch.bfloat16
    sizes, inner = _SIZES[kind](scenario, shapes) if kind else ([], [])
    inputs, more = ([torch.randn(*size, device=device, dtype=dtype) for size in of] for of in (sizes, inner))
    function = _function(kind, scenario, device)
    return None if function is None else (lambda *given: function(*given, *more), inputs)


_SIZES: dict[str, Callable[[Scenario, LocalSizes], tuple[Sizes, Sizes]]] = {
    "norm": lambda scenario, shapes: (
        [(shapes.divided_tokens, scenario.model.hidden_size), (scenario.model.hidden_size,)],
        [],
    ),
    "residual": lambda scenario, shapes: ([(shapes.divided_tokens, scenario.model.hidden_size)] * 2, []),
    "rope": lambda scenario, shapes: (
        [(shapes.tokens, shapes.heads + shapes.kv_heads, scenario.model.head_dim)],
        [(shapes.tokens, 1, scenario.model.head_dim)] * 2,
    ),
    "embedding": lambda scenario, shapes: ([(shapes.vocabulary, scenario.model.hidden_size)], []),
    "gated": lambda _, shapes: ([(shapes.tokens, 2 * shapes.intermediate)], []),
    "plain": lambda _, shapes: ([(shapes.tokens, shapes.intermediate)], []),
}
"""Sizes of the tensors that an operation has gradients for, and of those that it has none for."""


def _function(kind: str | None, scenario: Scenario, device: str) -> Function | None:
    """Return an operation as the software stack has it: fused, or eager."""
    import torch  # noqa: PLC0415  the user's own

    fused, functional = scenario.software.fused, torch.nn.functional
    if kind == "norm":
        return _norm(scenario)
    if kind == "rope":
        return _compiled(_rotated, device) if "rope" in fused else _rotated
    if kind == "embedding":
        shapes = local_sizes(scenario)
        tokens = torch.randint(0, shapes.vocabulary, (shapes.tokens,), device=device)
        return lambda table: functional.embedding(tokens, table)
    if kind == "gated":
        return _compiled(_gated, device) if "bias_activation" in fused else _gated
    return {"residual": torch.add, "plain": functional.gelu}.get(kind or "")


def _norm(scenario: Scenario) -> Function:
    """Return PyTorch's own kernel, or what eager stacks write out in fp32."""
    import torch  # noqa: PLC0415  the user's own

    functional = torch.nn.functional
    if scenario.model.norm == "layernorm":
        return lambda x, w: functional.layer_norm(x, w.shape, w)
    if "norm" in scenario.software.fused:
        return lambda x, w: functional.rms_norm(x, w.shape, w)
    return _norm_in_fp32


def _compiled(function: Function, device: str) -> Function:
    """Return a function as PyTorch's compiler fuses it for one shape; on the processor as it is."""
    import torch  # noqa: PLC0415  the user's own

    return torch.compile(function, dynamic=False) if device == "cuda" else function  # type: ignore[no-any-return, unused-ignore]


def _rotated(states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    import torch  # noqa: PLC0415  the user's own

    first, second = states.chunk(2, dim=-1)
    return states * cosines + torch.cat((-second, first), dim=-1) * sines


def _norm_in_fp32(states: Tensor, weight: Tensor) -> Tensor:
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
