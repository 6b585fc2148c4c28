"""Pipeline stages: which layers each holds, as blocks of work with their activation memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.scenario.parameters import prediction_layers
from simulator.scenario.remembered import remembered
from simulator.workload.boundary_steps import embedding_steps, head_steps
from simulator.workload.captured import host_work
from simulator.workload.layer_kinds import LayerKind, layer_steps
from simulator.workload.layer_plan import LayerPlan, layer_plan, memory_plan
from simulator.workload.layer_program import (
    Habits,
    backward_program,
    forward_program,
    weight_gradient_bytes,
    weight_gradient_program,
)
from simulator.workload.layer_steps import Exchange
from simulator.workload.outline import Outline, outlines
from simulator.workload.pipeline import splits_backward
from simulator.workload.prediction_steps import joining_steps
from simulator.workload.shapes import Shapes, shapes_of
from simulator.workload.work import Block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.scenario import Scenario
    from simulator.workload.layer_steps import Step
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageKind:
    """What stages with the same work have in common.

    Attributes:
        outline: What decides how many parameters they have.
        layers: Different kinds and plans of layers.
        places: Which of them each layer has.
    """

    outline: Outline
    layers: tuple[tuple[LayerKind, LayerPlan], ...]
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pipeline stage.

    Attributes:
        layers: Numbers of its transformer layers.
        works: Its work in model order: embedding, layers, prediction modules each with its head, head.
        kind: What it has in common with other stages.
    """

    layers: tuple[int, ...]
    works: tuple[LayerWork, ...]
    kind: StageKind

    @property
    def outline(self) -> Outline:
        """What decides how many parameters it has."""
        return self.kind.outline

    @property
    def has_embedding(self) -> bool:
        """Whether it holds the token embedding."""
        return self.outline.has_embedding

    @property
    def has_head(self) -> bool:
        """Whether it holds the final norm, the vocabulary head and the loss."""
        return self.outline.has_head

    @property
    def saved_bytes(self) -> float:
        """Activation bytes of one micro-batch."""
        return sum(work.saved_bytes for work in self.works)


def copied_bytes(works: Sequence[LayerWork]) -> float:
    """Return the activation bytes on their way to or from host memory while a pass over layers runs.

    One layer's are copied while the next layer computes, so two layers' exist at a time.
    """
    offloaded = [work.offloaded_bytes for work in works]
    return min(2 * max(offloaded, default=0.0), sum(offloaded))


def stages_of(scenario: Scenario) -> tuple[Stage, ...]:
    """Divide the model into its pipeline stages; layers of one kind share their work."""
    settings = layer_settings(scenario)
    stages: list[Stage] = []
    first = 0
    for count, kind in zip(scenario.parallelism.stage_layers, stage_kinds(scenario), strict=True):
        layers = tuple(range(first, first + count))
        stages.append(Stage(layers=layers, works=stage_works(scenario, kind, settings), kind=kind))
        first += count
    return tuple(stages)


@remembered
def layer_settings(scenario: Scenario) -> LayerSettings:
    """Return what the layers of a scenario have in common; one object for all that are equal."""
    return _one_setting(shapes_of(scenario), Habits.of(scenario), splits_backward(scenario))


@lru_cache(maxsize=4096)
def _one_setting(shapes: Shapes, habits: Habits, splits: bool) -> LayerSettings:
    return LayerSettings(shapes=shapes, habits=habits, splits_backward=splits)


@remembered
def stage_kinds(scenario: Scenario) -> tuple[StageKind, ...]:
    """Return the kind of every stage of a scenario, in model order; one object for all that are alike."""
    kinds: list[StageKind] = []
    first = 0
    for count, outline in zip(scenario.parallelism.stage_layers, outlines(scenario), strict=True):
        layers = tuple(
            (LayerKind.of(scenario, layer), layer_plan(scenario, layer, layer - first, count))
            for layer in range(first, first + count)
        )
        kinds.append(_one_for_all(outline, layers))
        first += count
    return tuple(kinds)


@lru_cache(maxsize=4096)
def _one_for_all(outline: Outline, layers: tuple[tuple[LayerKind, LayerPlan], ...]) -> StageKind:
    different = tuple(dict.fromkeys(layers))
    number = {layer: place for place, layer in enumerate(different)}
    return StageKind(outline=outline, layers=different, places=tuple(map(number.__getitem__, layers)))


@remembered
def stage_works(scenario: Scenario, kind: StageKind, settings: LayerSettings) -> tuple[LayerWork, ...]:
    """Return the work of a stage of one kind in model order; see ``Stage.works``."""
    made = [_layer(scenario, *each, settings) for each in kind.layers]
    works = [made[place] for place in kind.places]
    if kind.outline.has_embedding:
        works.insert(0, _edge(scenario, "embedding", settings))
    if kind.outline.has_head:
        head = _edge(scenario, "head and loss", settings)
        works += [*_prediction(scenario, settings), head] * kind.outline.predictions + [head]
    return tuple(works)


def layer_work(scenario: Scenario, layer: int, plan: LayerPlan) -> LayerWork:
    """Return the work of one layer by itself."""
    return _layer(scenario, LayerKind.of(scenario, layer), plan, layer_settings(scenario))


def boundary_works(scenario: Scenario) -> tuple[LayerWork, tuple[LayerWork, ...]]:
    """Return the work before the first layer, and what follows the last one."""
    settings = layer_settings(scenario)
    head = _edge(scenario, "head and loss", settings)
    modules = [*_prediction(scenario, settings), head] * scenario.model.num_nextn_predict_layers
    return _edge(scenario, "embedding", settings), (*modules, head)


def _last_steps(scenario: Scenario, shapes: Shapes) -> list[Step]:
    """Return what follows the last layer: only the final norm, where all ranks share the output layer."""
    steps = head_steps(scenario, shapes)
    return steps if scenario.parallelism.vocabulary == "none" else steps[:1]


@remembered
def _layer(scenario: Scenario, kind: LayerKind, plan: LayerPlan, settings: LayerSettings) -> LayerWork:
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
def _prediction(scenario: Scenario, settings: LayerSettings) -> tuple[LayerWork, ...]:
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
def _edge(scenario: Scenario, name: str, settings: LayerSettings) -> LayerWork:
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
