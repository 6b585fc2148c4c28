"""One layer, the embedding or the head on one rank and one micro-batch: its passes, and what they keep."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.scenario.parameters import prediction_layers
from simulator.scenario.remembered import remembered
from simulator.workload.layers.embedding_and_head import embedding_steps, head_steps
from simulator.workload.layers.host import host_work
from simulator.workload.layers.kinds import LayerKind, layer_steps
from simulator.workload.layers.local_sizes import Shapes, shapes_of
from simulator.workload.layers.lower import (
    Habits,
    backward_program,
    forward_program,
    weight_gradient_bytes,
    weight_gradient_program,
)
from simulator.workload.layers.multi_token_prediction import joining_steps
from simulator.workload.layers.operation import Exchange
from simulator.workload.layers.plan import LayerPlan, layer_plan, memory_plan
from simulator.workload.pipeline import splits_backward
from simulator.workload.program import Block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.scenario import Scenario
    from simulator.workload.layers.operation import Step
    from simulator.workload.program import Program


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Halves:
    """A backward pass in two.

    Attributes:
        input: Input gradients, recomputation included.
        weight: Weight gradients.
        kept_bytes: Inputs and output gradients that wait for the weight gradients.
    """

    input: Block
    weight: Block
    kept_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerWork:
    """The work of one layer (or of the embedding, or of the head) on one rank and one micro-batch.

    Attributes:
        forward: Forward pass.
        backward: Backward pass, recomputation included.
        saved_bytes: Activation bytes kept between them.
        working_bytes: Further bytes that the backward pass takes while it runs: what it recomputes, and
            gradients of activations.
        offloaded_bytes: Further activation bytes that wait in host memory between the passes.
        halves: The backward pass in two, where the schedule splits it.
    """

    forward: Block
    backward: Block
    saved_bytes: float
    working_bytes: float
    offloaded_bytes: float = 0.0
    halves: Halves | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerSettings:
    """What the layers of a scenario have in common.

    Attributes:
        shapes: Sizes of one rank's share.
        habits: How layers are run.
        splits_backward: Whether weight gradients are passes of their own.
    """

    shapes: Shapes
    habits: Habits
    splits_backward: bool


def copied_bytes(works: Sequence[LayerWork]) -> float:
    """Return the activation bytes on their way to or from host memory while a pass over layers runs.

    One layer's are copied while the next layer computes, so two layers' exist at a time.
    """
    offloaded = [work.offloaded_bytes for work in works]
    return min(2 * max(offloaded, default=0.0), sum(offloaded))


@remembered
def layer_settings(scenario: Scenario) -> LayerSettings:
    """Return what the layers of a scenario have in common; one object for all that are equal."""
    parallelism = scenario.parallelism
    splits = splits_backward(parallelism.schedule, parallelism.schedule_rows)
    return _one_setting(shapes_of(scenario), Habits.of(scenario), splits)


@lru_cache(maxsize=4096)
def _one_setting(shapes: Shapes, habits: Habits, splits: bool) -> LayerSettings:
    return LayerSettings(shapes=shapes, habits=habits, splits_backward=splits)


def layer_work(scenario: Scenario, layer: int, plan: LayerPlan) -> LayerWork:
    """Return the work of one layer by itself."""
    return layer_of_kind(scenario, LayerKind.of(scenario, layer), plan, layer_settings(scenario))


def boundary_works(scenario: Scenario) -> tuple[LayerWork, tuple[LayerWork, ...]]:
    """Return the work before the first layer, and what follows the last one."""
    settings = layer_settings(scenario)
    head = edge_work(scenario, "head and loss", settings)
    modules = [*prediction_works(scenario, settings), head] * scenario.model.num_nextn_predict_layers
    return edge_work(scenario, "embedding", settings), (*modules, head)


def _last_steps(scenario: Scenario, shapes: Shapes) -> list[Step]:
    """Return what follows the last layer: only the final norm, where all ranks share the output layer."""
    steps = head_steps(scenario, shapes)
    return steps if scenario.parallelism.vocabulary == "none" else steps[:1]


@remembered
def layer_of_kind(scenario: Scenario, kind: LayerKind, plan: LayerPlan, settings: LayerSettings) -> LayerWork:
    """Return the work of a layer, given what tells it apart from others and how it is treated."""
    name = "layer with experts" if kind.has_experts else "layer"
    return _work(name, scenario, _lowered(scenario, kind, settings, is_low=plan.is_low), settings, plan)


@dataclass(slots=True, kw_only=True, eq=False)
class _Lowered:
    """Steps of a layer, and its forward pass: the same whatever is kept for the backward pass.

    Attributes:
        shapes: Sizes of one rank's share.
        steps: The steps.
        there: The forward pass, for each number of bytes that are copied out meanwhile.
    """

    shapes: Shapes
    steps: list[Step]
    there: dict[float, Program] = field(default_factory=dict)

    def forward(self, habits: Habits, offloaded: float) -> Program:
        """Return the forward pass."""
        if offloaded not in self.there:
            self.there[offloaded] = forward_program(self.steps, habits, offloaded)
        return self.there[offloaded]


@remembered
def _lowered(scenario: Scenario, kind: LayerKind, settings: LayerSettings, *, is_low: bool) -> _Lowered:
    shapes = settings.shapes if is_low else settings.shapes.in_high_precision()
    return _Lowered(shapes=shapes, steps=layer_steps(scenario, shapes, kind))


@remembered
def prediction_works(scenario: Scenario, settings: LayerSettings) -> tuple[LayerWork, ...]:
    """Return a multi-token-prediction module without its head, if the model has any."""
    model, shapes = scenario.model, settings.shapes
    if not model.num_nextn_predict_layers:
        return ()
    last = model.num_hidden_layers - 1
    plan = layer_plan(scenario, last, 0, 1)
    sizes = shapes if plan.is_low else shapes.in_high_precision()
    steps = joining_steps(scenario, sizes)
    for block, has_experts in prediction_layers(model):
        kind = replace(LayerKind.of(scenario, last), has_experts=has_experts, block=block)
        steps += layer_steps(scenario, sizes, kind)
    layer = _Lowered(shapes=sizes, steps=steps)
    return (_work("prediction module", scenario, layer, settings, plan),)


def _work(
    name: str,
    scenario: Scenario,
    layer: _Lowered,
    settings: LayerSettings,
    plan: LayerPlan,
) -> LayerWork:
    shapes, steps, habits = layer.shapes, layer.steps, settings.habits
    memory, offloaded = memory_plan(scenario, shapes, steps, plan)
    everything = sum(step.saved_bytes for step in steps)
    kept = memory.total_bytes
    there = layer.forward(habits, offloaded)
    back = backward_program(steps, habits, memory.reruns, offloaded)
    ahead, behind = host_work(scenario, steps, habits, memory.reruns)
    return LayerWork(
        forward=Block(f"{name}, forward", there, ahead.captured, ahead.calls),
        backward=Block(f"{name}, backward", back, behind.captured, behind.calls),
        saved_bytes=kept - offloaded,
        working_bytes=plan.group * everything - kept + _working_bytes(steps),
        offloaded_bytes=offloaded,
        halves=_halves(name, shapes, steps, habits, memory.reruns, offloaded)
        if settings.splits_backward
        else None,
    )


def _working_bytes(steps: Sequence[Step]) -> float:
    """Return the most that gradients take beside what is kept, while the backward pass goes step by step."""
    return max((step.working_bytes for step in steps if not isinstance(step, Exchange)), default=0.0)


def _halves(
    name: str,
    shapes: Shapes,
    steps: Sequence[Step],
    habits: Habits,
    reruns: Mapping[int, Sequence[Step]] | None = None,
    offloaded: float = 0.0,
) -> Halves:
    inputs = backward_program(steps, habits, reruns, offloaded, part="input")
    return Halves(
        input=Block(f"{name}, input gradient", inputs),
        weight=Block(f"{name}, weight gradient", weight_gradient_program(steps, habits)),
        kept_bytes=weight_gradient_bytes(steps, shapes.element_bytes),
    )


@remembered
def edge_work(scenario: Scenario, name: str, settings: LayerSettings) -> LayerWork:
    """Build the work of the embedding or of the head, of which nothing is ever recomputed."""
    shapes = settings.shapes
    is_first = name == "embedding"
    steps = embedding_steps(scenario, shapes) if is_first else _last_steps(scenario, shapes)
    habits = replace(settings.habits, overlaps_tp=False)
    ahead, behind = host_work(scenario, steps, habits)
    return LayerWork(
        forward=Block(f"{name}, forward", forward_program(steps, habits), ahead.captured, ahead.calls),
        backward=Block(f"{name}, backward", backward_program(steps, habits), behind.captured, behind.calls),
        saved_bytes=sum(step.saved_bytes for step in steps),
        working_bytes=_working_bytes(steps),
        halves=_halves(name, shapes, steps, habits) if settings.splits_backward else None,
    )
