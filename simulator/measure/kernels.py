"""The simulator's kernels as PyTorch calls: the same shapes on random data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.workload.work import Attention, Elementwise, Gemm

if TYPE_CHECKING:
    from collections.abc import Callable

Kernel = Gemm | Attention | Elementwise
_DTYPES = ("bf16", "fp16", "fp32")


def runnable(work: Kernel, device: str) -> Callable[[], object] | None:
    """Return a call that does the work, or None where PyTorch alone has no kernel for it.

    Grouped products and number formats below 16 bits need libraries beyond PyTorch, and so does attention
    with values of another width; such work is left out.
    """
    if isinstance(work, Gemm):
        return None if work.grouped or work.dtype not in _DTYPES else _gemm(work, device)
    if isinstance(work, Attention):
        plain = work.head_dim == work.value_dim and work.dtype in _DTYPES and work.seq_q == work.seq_kv
        return _attention(work, device) if plain else None
    return _elementwise(work, device)


def _dtype(name: str) -> Any:  # noqa: ANN401  a torch.dtype; torch is imported late
    import torch  # noqa: PLC0415  the user's own

    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]


def _gemm(work: Gemm, device: str) -> Callable[[], object]:
    """A weight gradient adds to a 16-bit result here: PyTorch has no kernel that adds to fp32."""
    import torch  # noqa: PLC0415  the user's own

    dtype = _dtype(work.dtype)
    left = torch.randn(work.batch, work.m, work.k, device=device, dtype=dtype)
    right = torch.randn(work.batch, work.n, work.k, device=device, dtype=dtype).transpose(1, 2)
    out = torch.zeros(work.batch, work.m, work.n, device=device, dtype=dtype)
    if work.accumulates:
        return lambda: torch.baddbmm(out, left, right, out=out)
    if work.batch == 1:
        return lambda: torch.mm(left[0], right[0], out=out[0])
    return lambda: torch.bmm(left, right, out=out)


def _attention(work: Attention, device: str) -> Callable[[], object]:
    import torch  # noqa: PLC0415  the user's own

    dtype, needs_grad = _dtype(work.dtype), work.direction == "backward"

    def tensor(heads: int) -> Any:  # noqa: ANN401  a torch.Tensor
        shape = (work.sequences, heads, work.seq_q, work.head_dim)
        return torch.randn(*shape, device=device, dtype=dtype, requires_grad=needs_grad)

    query, key, value = tensor(work.heads), tensor(work.kv_heads), tensor(work.kv_heads)
    causal = work.pairs < work.seq_q * work.seq_kv
    attend = torch.nn.functional.scaled_dot_product_attention
    grouped = work.heads != work.kv_heads
    if not needs_grad:
        return lambda: attend(query, key, value, is_causal=causal, enable_gqa=grouped)
    result = attend(query, key, value, is_causal=causal, enable_gqa=grouped)
    gradient = torch.randn_like(result)
    return lambda: torch.autograd.grad(result, (query, key, value), gradient, retain_graph=True)


def _elementwise(work: Elementwise, device: str) -> Callable[[], object]:
    """Copies of as many bytes, half read and half written, in as many kernels."""
    import torch  # noqa: PLC0415  the user's own

    count = max(1, int(work.bytes_moved / 2 / work.kernels / 2))
    source = torch.randn(count, device=device).to(torch.bfloat16)
    target = torch.empty_like(source)

    def run() -> None:
        for _ in range(work.kernels):
            target.copy_(source)

    return run
