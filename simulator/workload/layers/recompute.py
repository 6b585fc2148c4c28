"""What the backward pass of a layer runs again, and what the layer therefore keeps.

A layer is a list of steps, each of which keeps its input. A checkpointed module keeps the input of its first
step only and runs its forward pass again before its backward pass (Chen et al., arXiv:1604.06174; Korthikanti
et al., arXiv:2205.05198, section 5). A module whose output is recomputed keeps its inputs, drops its output,
which the next step would have kept, and runs again before that step's backward pass (Megatron-Core,
``CheckpointWithoutOutput``). Eager and compiled PyTorch and JAX keep chosen results of a checkpointed layer
and run the rest again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.workload.layers.operation import CoreAttention, Exchange, Linear, Pointwise, Step
from simulator.workload.work import Attention

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from simulator.scenario.recompute import Recompute, RecomputeDetail, RecomputeModule

CHECKPOINTED = frozenset({"core_attn", "mlp", "moe", "shared_experts"})
OUTPUT_RECOMPUTED = frozenset({"layernorm", "mla_up_proj", "moe_act"})
POLICIES = frozenset({"per_op", "save_attention", "save_qkv", "save_dots"})
_RESULT_BYTES = 2
_KEEPS_ATTENTION = frozenset({"per_op", "save_attention"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RecomputePlan:
    """What one layer keeps and runs again.

    Attributes:
        kept_bytes: By step, the bytes kept from the forward to the backward pass.
        extra_bytes: Further bytes kept: the input of a layer that is recomputed whole, outputs it keeps.
        reruns: By step, the steps whose forward pass runs again before its backward pass.
    """

    kept_bytes: tuple[float, ...]
    extra_bytes: float
    reruns: Mapping[int, tuple[Step, ...]]

    @property
    def total_bytes(self) -> float:
        """Bytes kept of the layer."""
        return sum(self.kept_bytes) + self.extra_bytes


def recompute_plan(
    steps: Sequence[Step],
    recompute: Recompute,
    modules: Sequence[RecomputeModule],
    input_bytes: float,
    *,
    stops_early: bool = False,
) -> RecomputePlan:
    """Work out what a layer keeps.

    Args:
        steps: The layer.
        recompute: What is recomputed; ``full`` keeps the layer's input only.
        modules: Which modules, with ``selective``.
        input_bytes: Size of the layer's input.
        stops_early: Whether recomputation ends with the last tensor that the backward pass needs.
    """
    everything = tuple(step.saved_bytes for step in steps)
    if recompute == "none" or not steps:
        return RecomputePlan(kept_bytes=everything, extra_bytes=0.0, reruns={})
    last, nothing = len(steps) - 1, (0.0,) * len(steps)
    if recompute == "full":
        again = needed_again(steps) if stops_early else tuple(steps)
        kept = min(input_bytes, sum(everything))
        return RecomputePlan(kept_bytes=nothing, extra_bytes=kept, reruns={last: again})
    policy = next((name for name in modules if name in POLICIES), None)
    if policy is None:
        return _selective(steps, frozenset(modules), everything)
    again, outputs = parts_run_again(steps, policy, stops_early=stops_early)
    kept = min(input_bytes + outputs, sum(everything))
    return RecomputePlan(kept_bytes=nothing, extra_bytes=kept, reruns={last: again})


def _selective(
    steps: Sequence[Step], modules: frozenset[str], everything: tuple[float, ...]
) -> RecomputePlan:
    kept, reruns = list(everything), dict[int, tuple[Step, ...]]()
    covered: set[int] = set()
    for start, end in _regions(steps, modules & CHECKPOINTED):
        covered.update(range(start, end))
        reruns[end - 1] = tuple(steps[start:end])
        _keep_input_only(steps, start, end, kept)
    for start, end in _regions(steps, modules & OUTPUT_RECOMPUTED):
        if start in covered:
            continue
        consumer = next((i for i in range(end, len(steps)) if _keeps(steps[i])), None)
        if consumer is None:
            continue
        first = steps[consumer]
        dropped = first.input_bytes if isinstance(first, CoreAttention) else kept[consumer]
        kept[consumer] = max(0.0, kept[consumer] - dropped)
        reruns[consumer] = (*reruns.get(consumer, ()), *steps[start:end])
    return RecomputePlan(kept_bytes=tuple(kept), extra_bytes=0.0, reruns=reruns)


def _keeps(step: Step) -> bool:
    return step.saved_bytes > 0


def _keep_input_only(steps: Sequence[Step], start: int, end: int, kept: list[float]) -> None:
    """Keep what the first step that keeps anything does; of the attention core, its inputs."""
    is_first = True
    for index in range(start, end):
        step = steps[index]
        if isinstance(step, CoreAttention):
            kept[index] = step.input_bytes if is_first else 0.0
        elif not is_first:
            kept[index] = 0.0
        is_first = is_first and not _keeps(step)


def _regions(steps: Sequence[Step], modules: Iterable[str]) -> list[tuple[int, int]]:
    """Return the runs of steps that belong to one of the modules, the outermost ones only."""
    wanted = frozenset(modules)
    names = [next((name for name in step.modules if name in wanted), None) for step in steps]
    regions: list[tuple[int, int]] = []
    for index, name in enumerate(names):
        if name is None:
            continue
        if regions and regions[-1][1] == index and names[index - 1] == name:
            regions[-1] = (regions[-1][0], index + 1)
        else:
            regions.append((index, index + 1))
    return regions


def is_recomputed(detail: RecomputeDetail, position: int, layers: int) -> bool:
    """Tell whether the layer at a position of its stage is recomputed by ``full``.

    >>> from simulator.scenario.recompute import RecomputeDetail
    >>> block = RecomputeDetail(method="block", num_layers=2)
    >>> [is_recomputed(block, position, 4) for position in range(4)]
    [True, True, False, False]
    """
    count = detail.num_layers
    if detail.method == "block":
        return position < (layers if count is None else count)
    if detail.method == "every":
        return (position + 1) % (count or 1) == 0
    return True


def kept_inputs(detail: RecomputeDetail, position: int) -> bool:
    """Tell whether a fully recomputed layer keeps its input: the first one of its group does."""
    return detail.method != "uniform" or position % (detail.num_layers or 1) == 0


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
