"""The simulator's matrix products and attention as PyTorch calls: the same shapes on random data.

The data are random because the power that a product takes, and with it the clock, depends on the bits that
flip; zeros run up to 13% faster on an H100.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.workload.work import Attention, Gemm

    Tensor = Any  # torch.Tensor; PyTorch is the user's own and imported late

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp8": "float8_e4m3fn"}
BACKENDS = {"flash2": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION"}
"""What PyTorch calls the attention kernels that it has."""


def product(work: Gemm, device: str) -> Callable[[], object] | None:
    """Return a call that multiplies as the work does, or None where PyTorch has no such kernel.

    FP8 operands have one scale each; products whose partial sums are promoted need a library beyond PyTorch.
    """
    if work.dtype not in _DTYPES or work.promotes:
        return None
    if work.grouped:
        return _grouped(work, device)
    if work.dtype == "fp8":
        return _scaled(work, device) if work.batch == 1 else None
    return _batched(work, device)


def attention(work: Attention, device: str) -> Callable[[], object] | None:
    """Return a call that attends as the work does, or None where PyTorch has no such kernel.

    Raises:
        RuntimeError: When called: this device has no kernel of that kind.
    """
    plain = work.head_dim == work.value_dim and work.dtype in _DTYPES and work.seq_q == work.seq_kv
    if not plain or work.kernel not in BACKENDS:
        return None
    import torch  # noqa: PLC0415  the user's own
    from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: PLC0415  as above

    dtype, backward = _dtype(work.dtype), work.direction == "backward"

    def tensor(heads: int) -> Tensor:
        shape = (work.sequences, work.seq_q, heads, work.head_dim)
        data = torch.randn(*shape, device=device, dtype=dtype)
        return data.transpose(1, 2).requires_grad_(backward)

    query, key, value = tensor(work.heads), tensor(work.kv_heads), tensor(work.kv_heads)
    causal, grouped = work.pairs < work.seq_q * work.seq_kv, work.heads != work.kv_heads
    chosen = getattr(SDPBackend, BACKENDS[work.kernel] if device == "cuda" else "MATH")

    def attend() -> Tensor:
        with sdpa_kernel(chosen):
            attended = torch.nn.functional.scaled_dot_product_attention
            return attended(query, key, value, is_causal=causal, enable_gqa=grouped)

    if not backward:
        return attend
    result = attend()
    gradient = torch.randn_like(result)
    return lambda: torch.autograd.grad(result, (query, key, value), gradient, retain_graph=True)


def _dtype(name: str) -> Any:  # noqa: ANN401  a torch.dtype
    import torch  # noqa: PLC0415  the user's own

    return getattr(torch, _DTYPES[name])


def _batched(work: Gemm, device: str) -> Callable[[], object]:
    """Weight gradients add to an fp32 result where the device has such a kernel, else to one of 16 bits."""
    import torch  # noqa: PLC0415  the user's own

    dtype = _dtype(work.dtype)
    left = torch.randn(work.batch, work.m, work.k, device=device, dtype=dtype)
    right = torch.randn(work.batch, work.n, work.k, device=device, dtype=dtype).transpose(1, 2)
    if work.accumulates and device == "cuda" and work.batch == 1:
        total = torch.zeros(work.m, work.n, device=device, dtype=torch.float32)
        # Both operands of a weight gradient have the tokens as their outer dimension.
        left, right = left[0].t().contiguous().t(), right[0].contiguous()
        return lambda: torch.addmm(total, left, right, out_dtype=torch.float32, out=total)
    out = torch.zeros(work.batch, work.m, work.n, device=device, dtype=dtype)
    if work.accumulates:
        return lambda: torch.baddbmm(out, left, right, out=out)
    if work.batch == 1:
        return lambda: torch.mm(left[0], right[0], out=out[0])
    return lambda: torch.bmm(left, right, out=out)


def _scaled(work: Gemm, device: str) -> Callable[[], object]:
    import torch  # noqa: PLC0415  the user's own

    dtype, scale = _dtype("fp8"), torch.ones((), device=device)
    left = torch.randn(work.m, work.k, device=device).to(dtype)
    right = torch.randn(work.n, work.k, device=device).to(dtype).t()
    out_dtype = torch.float32 if work.accumulates else torch.bfloat16
    return lambda: torch._scaled_mm(left, right, scale, scale, out_dtype=out_dtype, use_fast_accum=True)  # noqa: SLF001  the only call of it


def _grouped(work: Gemm, device: str) -> Callable[[], object] | None:
    """Return products of equal sizes that one kernel runs; PyTorch adds no gradients in it."""
    import torch  # noqa: PLC0415  the user's own

    if work.dtype != "bf16":
        return None
    inner = work.k if work.accumulates else work.m
    ends = torch.arange(1, work.batch + 1, device=device, dtype=torch.int32) * inner
    if work.accumulates:
        left = torch.randn(work.batch * work.k, work.m, device=device, dtype=torch.bfloat16).t()
        right = torch.randn(work.batch * work.k, work.n, device=device, dtype=torch.bfloat16)
    else:
        left = torch.randn(work.batch * work.m, work.k, device=device, dtype=torch.bfloat16)
        right = torch.randn(work.batch, work.n, work.k, device=device, dtype=torch.bfloat16).transpose(1, 2)
    return lambda: torch._grouped_mm(left, right, ends)  # noqa: SLF001  the only call of it
