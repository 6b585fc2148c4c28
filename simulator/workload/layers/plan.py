"""How each layer of a stage is treated: recomputed or not, in which precision, with or without offloading."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.workload.layers.operation import Exchange, Step
from simulator.workload.layers.recompute import RecomputePlan, is_recomputed, kept_inputs, recompute_plan
from simulator.workload.work import Collective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import RecomputeDetail, Training
    from simulator.scenario.recompute import OffloadModule, Recompute, RecomputeModule
    from simulator.workload.layers.local_sizes import LocalSizes


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """What distinguishes layers with the same steps.

    Attributes:
        recompute: What its backward pass runs again.
        modules: Modules that run again, with ``selective``.
        stops_early: Whether recomputation ends with the last tensor that the backward pass needs.
        keeps_input: Whether a layer that is recomputed whole keeps its input, or starts from that of the
            first layer of its group.
        divides_input: Whether tensor-parallel ranks share that input.
        group: Layers that are recomputed together and whose activations exist at once.
        is_low: Whether its GEMMs run in the low precision.
        offloaded: Modules whose saved activations wait in host memory.
    """

    recompute: Recompute = "none"
    modules: tuple[RecomputeModule, ...] = ()
    stops_early: bool = False
    keeps_input: bool = True
    divides_input: bool = False
    group: int = 1
    is_low: bool = True
    offloaded: tuple[OffloadModule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What decides the plans of all layers.

    Attributes:
        recompute: What backward passes run again.
        detail: In which modules or layers.
        stops_early: Whether recomputation ends with the last tensor that the backward pass needs.
        offloaded: Modules whose saved activations wait in host memory.
        offloaded_layers: Layers of each stage, from the first, where they do; None: all but the last.
        low_layers: First layer of the model whose GEMMs run in the low precision, and the one after the last.
    """

    recompute: Recompute
    detail: RecomputeDetail
    stops_early: bool
    offloaded: tuple[OffloadModule, ...]
    offloaded_layers: int | None
    low_layers: tuple[int, int]

    @classmethod
    def of(cls, training: Training, layers: int, *, stops_early: bool) -> PlanOptions:
        """Return what decides the plans of a model's layers.

        Args:
            training: The settings.
            layers: Layers of the model.
            stops_early: Whether recomputation ends with the last tensor that the backward pass needs.
        """
        return cls(
            recompute=training.recompute,
            detail=training.recompute_detail,
            stops_early=stops_early,
            offloaded=training.offload.modules,
            offloaded_layers=training.offload.num_layers,
            low_layers=(training.bf16_layers_at_start, layers - training.bf16_layers_at_end),
        )

    def plan(self, layer: int, position: int, layers: int) -> LayerPlan:
        """Return the plan of a layer.

        Args:
            layer: Its index in the model.
            position: Its position in its stage.
            layers: Layers of that stage.
        """
        detail, recompute = self.detail, self.recompute
        if recompute == "full" and not is_recomputed(detail, position, layers):
            recompute = "none"
        is_group = recompute == "full" and detail.method == "uniform"
        count = self.offloaded_layers
        offloaded_layers = layers - 1 if count is None else min(count, layers)
        first, end = self.low_layers
        return LayerPlan(
            recompute=recompute,
            modules=detail.modules if recompute == "selective" else (),
            stops_early=self.stops_early and recompute != "none",
            keeps_input=not is_group or kept_inputs(detail, position),
            divides_input=detail.distribute_saved and recompute == "full",
            group=min(detail.num_layers or 1, layers) if is_group else 1,
            is_low=first <= layer < end,
            offloaded=self.offloaded if position < offloaded_layers else (),
        )


def memory_plan(
    sizes: LocalSizes, hidden: int, steps: Sequence[Step], plan: LayerPlan
) -> tuple[RecomputePlan, float]:
    """Return what a layer keeps and runs again, and how much of what it keeps waits in host memory."""
    input_bytes = sizes.divided_tokens * hidden * sizes.element_bytes
    kept = recompute_plan(
        steps,
        plan.recompute,
        plan.modules,
        input_bytes if plan.keeps_input else 0.0,
        stops_early=plan.stops_early,
    )
    if plan.divides_input and plan.keeps_input:
        kept = _divided(kept, sizes, input_bytes)
    return kept, _offloaded_bytes(plan.offloaded, steps, kept) if plan.offloaded else 0.0


def _divided(plan: RecomputePlan, sizes: LocalSizes, input_bytes: float) -> RecomputePlan:
    """Divide the kept input among tensor-parallel ranks; they gather it before the recomputation."""
    if sizes.tp.size == 1 or sizes.divided_tokens < sizes.tokens:
        return plan
    gather = Collective(kind="all_gather", group=sizes.tp, bytes=input_bytes, name="saved_input_gather")
    first = Exchange(forward=gather, backward=None, stream="tp")
    return replace(
        plan,
        extra_bytes=plan.extra_bytes / sizes.tp.size,
        reruns={index: (first, *steps) for index, steps in plan.reruns.items()},
    )


def _offloaded_bytes(modules: Sequence[OffloadModule], steps: Sequence[Step], plan: RecomputePlan) -> float:
    if "all" in modules:
        return plan.total_bytes
    chosen = frozenset[str](modules)
    return sum(
        kept for step, kept in zip(steps, plan.kept_bytes, strict=True) if chosen.intersection(step.modules)
    )
