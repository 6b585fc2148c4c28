"""Recomputation by operation: which parts of a layer run again when some results are kept.

Eager and compiled PyTorch and JAX keep chosen results of a checkpointed layer and run the rest again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.workload.layers.operation import CoreAttention, Exchange, Linear, Pointwise, Step
from simulator.workload.work import Attention

if TYPE_CHECKING:
    from collections.abc import Sequence

_RESULT_BYTES = 2
_KEEPS_ATTENTION = frozenset({"per_op", "save_attention"})


def parts_run_again(
    steps: Sequence[Step], policy: str, *, stops_early: bool
) -> tuple[tuple[Step, ...], float]:
    """Return the forward work of a layer that runs again, and the bytes of the results that are kept.

    ``per_op`` is torchtitan's selective checkpointing (``_op_sac_save_list``): results of attention, of
    reduce-scatters and of every other matrix product are kept, counting query, key, value, output, gate, up
    and down products one by one; in fp8 as well, as the same memory with and without it shows (torchtitan,
    benchmarks/llama3_h100_202412_torchtitan.md). Grouped products are not on the list. ``save_qkv`` is
    MaxText's ``save_qkv_proj``: query, key and value are kept; ``save_attention`` keeps the result of
    attention, its ``context``, as well. ``save_dots`` is its ``minimal``: every matrix product's result is
    kept.

    Args:
        steps: The layer.
        policy: ``per_op``, ``save_attention``, ``save_qkv`` or ``save_dots``.
        stops_early: Whether what nothing needs is left out (``needed_again``), such as a last product.
    """
    needed = len(needed_again(steps)) if stops_early else len(steps)
    again: list[Step] = []
    kept = 0.0
    counted = 0
    kv_share = _key_share(steps)
    for index, step in enumerate(steps):
        rerun: Step | None = None
        match step:
            case Pointwise() | Exchange():
                rerun = step
            case CoreAttention():
                if policy in _KEEPS_ATTENTION:
                    kept += max(step.output_bytes, step.recomputed_bytes)
                else:
                    rerun = step
            case Linear():
                widths = _products(step, kv_share, steps)
                share, counted = _share_again(step, widths, policy, counted)
                kept += (1 - share) * step.forward.m * step.forward.n * step.forward.batch * _RESULT_BYTES
                if share:
                    rerun = _part(step, share, is_saved=policy == "per_op")
        if rerun is not None and index < needed:
            again.append(rerun)
    return tuple(again), kept


def needed_again(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps before the last one that keeps anything: its input is the last that must be remade.

    Non-reentrant checkpointing stops there (``torch.utils.checkpoint.set_checkpoint_early_stop``), and
    compilers leave the rest out as dead code.
    """
    last = max((index for index, step in enumerate(steps) if step.saved_bytes > 0), default=len(steps))
    return tuple(steps[:last])


def _key_share(steps: Sequence[Step]) -> float:
    """Return the part of a fused query-key-value product that is the keys'."""
    for step in steps:
        if isinstance(step, CoreAttention) and isinstance(step.forward[0], Attention):
            core = step.forward[0]
            return core.kv_heads / (core.heads + 2 * core.kv_heads)
    return 1 / 3


def _products(step: Linear, kv_share: float, steps: Sequence[Step]) -> tuple[float, ...]:
    """Return the shares of the separate matrix products that a fused one stands for."""
    if step.forward.name == "qkv":
        return (1 - 2 * kv_share, kv_share, kv_share)
    linears = [other.forward for other in steps if isinstance(other, Linear)]
    down = {gemm.k for gemm in linears if gemm.name == "mlp_down"}
    if step.forward.name == "mlp_up" and step.forward.n in {2 * width for width in down}:
        return (0.5, 0.5)
    return (1.0,)


def _share_again(step: Linear, products: tuple[float, ...], policy: str, counted: int) -> tuple[float, int]:
    """Return the share of a product that runs again, and how many products have been counted."""
    if policy == "save_dots":
        return 0.0, counted
    if policy in {"save_qkv", "save_attention"}:
        return float(step.forward.name not in {"qkv", "q", "q_up", "kv_up"}), counted
    if step.forward.grouped:
        return 1.0, counted
    runs = [share for number, share in enumerate(products, start=counted + 1) if number % 2 == 0]
    return sum(runs), counted + len(products)


def _part(step: Linear, share: float, *, is_saved: bool) -> Linear:
    """Return the part of a product that runs again; a reduced result that is kept is not reduced again."""
    width = max(1, round(step.forward.n * share))
    forward = replace(step.forward, n=width)
    return replace(step, forward=forward, reduce_output=None if is_saved else step.reduce_output)
