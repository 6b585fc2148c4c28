"""How each layer of a stage is treated: recomputed or not, in which precision, with or without offloading."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.workload.layers.low_precision import is_low_layer
from simulator.workload.layers.operation import Exchange, Step
from simulator.workload.layers.recompute import RecomputePlan, is_recomputed, kept_inputs, recompute_plan
from simulator.workload.work import Collective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.scenario.recompute import Recompute
    from simulator.workload.layers.local_sizes import Shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """What distinguishes layers with the same steps.

    Attributes:
        recompute: What its backward pass runs again.
        keeps_input: Whether a layer that is recomputed whole keeps its input, or starts from that of the
            first layer of its group.
        group: Layers that are recomputed together and whose activations exist at once.
        is_low: Whether its GEMMs run in the low precision.
        is_offloaded: Whether its activations wait in host memory.
    """

    recompute: Recompute = "none"
    keeps_input: bool = True
    group: int = 1
    is_low: bool = True
    is_offloaded: bool = False


def layer_plan(scenario: Scenario, layer: int, position: int, layers: int) -> LayerPlan:
    """Return the plan of a layer.

    Args:
        scenario: The request.
        layer: Its number in the model.
        position: Its position in its stage.
        layers: Layers of that stage.
    """
    training = scenario.training
    detail, offload = training.recompute_detail, training.offload
    recompute = training.recompute
    if recompute == "full" and not is_recomputed(detail, position, layers):
        recompute = "none"
    is_group = recompute == "full" and detail.method == "uniform"
    offloaded = layers - 1 if offload.num_layers is None else min(offload.num_layers, layers)
    return LayerPlan(
        recompute=recompute,
        keeps_input=not is_group or kept_inputs(detail, position),
        group=min(detail.num_layers or 1, layers) if is_group else 1,
        is_low=is_low_layer(scenario, layer),
        is_offloaded=bool(offload.modules) and position < offloaded,
    )


def memory_plan(
    scenario: Scenario, shapes: Shapes, steps: Sequence[Step], plan: LayerPlan
) -> tuple[RecomputePlan, float]:
    """Return what a layer keeps and runs again, and how much of what it keeps waits in host memory."""
    detail = scenario.training.recompute_detail
    input_bytes = shapes.divided_tokens * scenario.model.hidden_size * shapes.element_bytes
    kept = recompute_plan(
        steps,
        plan.recompute,
        detail,
        input_bytes if plan.keeps_input else 0.0,
        stops_early=scenario.software.recompute_stops_early,
    )
    if plan.recompute == "full" and detail.distribute_saved and plan.keeps_input:
        kept = _distributed(kept, shapes, input_bytes)
    return kept, _offloaded_bytes(scenario, steps, kept) if plan.is_offloaded else 0.0


def _distributed(plan: RecomputePlan, shapes: Shapes, input_bytes: float) -> RecomputePlan:
    """Divide the kept input among tensor-parallel ranks; they gather it before the recomputation."""
    if shapes.tp.size == 1 or shapes.divided_tokens < shapes.tokens:
        return plan
    gather = Collective(kind="all_gather", group=shapes.tp, bytes=input_bytes, name="saved_input_gather")
    first = Exchange(forward=gather, backward=None, stream="tp")
    return replace(
        plan,
        extra_bytes=plan.extra_bytes / shapes.tp.size,
        reruns={index: (first, *steps) for index, steps in plan.reruns.items()},
    )


def _offloaded_bytes(scenario: Scenario, steps: Sequence[Step], plan: RecomputePlan) -> float:
    modules = set(scenario.training.offload.modules)
    if "all" in modules:
        return plan.total_bytes
    return sum(
        kept for step, kept in zip(steps, plan.kept_bytes, strict=True) if modules.intersection(step.modules)
    )
