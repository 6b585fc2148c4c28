"""Pipeline stages: which layers each holds, as blocks of work with their activation memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.workload.attention_steps import attention_steps
from simulator.workload.boundary_steps import embedding_steps, head_steps
from simulator.workload.feed_forward_steps import feed_forward_steps
from simulator.workload.layer_program import Habits, backward_program, forward_program, saved_bytes
from simulator.workload.pointwise import residual
from simulator.workload.shapes import Shapes, shapes_of
from simulator.workload.work import Block

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.layer_steps import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerKind:
    """What tells the layers of a model apart.

    Attributes:
        has_experts: Whether the feed-forward block has experts.
        window: Attention window, or None.
    """

    has_experts: bool
    window: int | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerWork:
    """The work of one layer (or of the embedding, or of the head) on one rank and one micro-batch.

    Attributes:
        forward: Forward pass.
        backward: Backward pass, recomputation included.
        saved_bytes: Activation bytes kept between them.
        working_bytes: Further bytes that the backward pass takes while it runs: what it recomputes.
    """

    forward: Block
    backward: Block
    saved_bytes: float
    working_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pipeline stage.

    Attributes:
        layers: Numbers of its transformer layers.
        works: Its work in model order: embedding, layers, head.
        has_embedding: Whether it holds the token embedding.
        has_head: Whether it holds the final norm, the vocabulary head and the loss.
    """

    layers: tuple[int, ...]
    works: tuple[LayerWork, ...]
    has_embedding: bool
    has_head: bool

    @property
    def saved_bytes(self) -> float:
        """Activation bytes of one micro-batch."""
        return sum(work.saved_bytes for work in self.works)


def stages_of(scenario: Scenario) -> tuple[Stage, ...]:
    """Divide the model into its pipeline stages; layers of one kind share their work."""
    shapes, habits = shapes_of(scenario), Habits.of(scenario)
    kinds: dict[LayerKind, LayerWork] = {}
    counts = scenario.parallelism.stage_layers
    stages: list[Stage] = []
    first = 0
    for number, count in enumerate(counts):
        layers = tuple(range(first, first + count))
        works = [_layer(scenario, shapes, habits, kinds, layer) for layer in layers]
        is_first, is_last = number == 0, number == len(counts) - 1
        if is_first:
            works.insert(0, _work("embedding", embedding_steps(scenario, shapes), habits, None))
        if is_last:
            works.append(_work("head and loss", head_steps(scenario, shapes), habits, None))
        stages.append(Stage(layers=layers, works=tuple(works), has_embedding=is_first, has_head=is_last))
        first += count
    return tuple(stages)


def layer_steps(scenario: Scenario, shapes: Shapes, kind: LayerKind) -> list[Step]:
    """Return the steps of one transformer layer."""
    return [
        *attention_steps(scenario, shapes, kind.window),
        residual(scenario, shapes),
        *feed_forward_steps(scenario, shapes, has_experts=kind.has_experts),
        residual(scenario, shapes),
    ]


def _layer(
    scenario: Scenario, shapes: Shapes, habits: Habits, kinds: dict[LayerKind, LayerWork], layer: int
) -> LayerWork:
    kind = LayerKind(has_experts=scenario.model.is_moe_layer(layer), window=scenario.model.window(layer))
    if kind not in kinds:
        name = "layer with experts" if kind.has_experts else "layer"
        input_bytes = shapes.divided_tokens * scenario.model.hidden_size * shapes.element_bytes
        kinds[kind] = _work(name, layer_steps(scenario, shapes, kind), habits, input_bytes)
    return kinds[kind]


def _work(name: str, steps: list[Step], habits: Habits, input_bytes: float | None) -> LayerWork:
    """Build a layer's work; ``input_bytes`` is None where nothing is ever recomputed."""
    if input_bytes is None:
        habits = replace(habits, overlaps_tp=False, recompute="none")
    kept = saved_bytes(steps, habits.recompute, input_bytes or 0.0)
    return LayerWork(
        forward=Block(f"{name}, forward", forward_program(steps, habits)),
        backward=Block(f"{name}, backward", backward_program(steps, habits)),
        saved_bytes=kept,
        working_bytes=saved_bytes(steps, "none", 0.0) - kept,
    )
