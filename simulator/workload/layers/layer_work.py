"""One layer, the embedding or the head on one rank and one micro-batch: its passes, and what they keep.

Multi-token prediction (DeepSeek-V3, arXiv:2412.19437, section 2.2) joins the model's output with the
embedding of the next token: two norms, a projection of 2h to h, one more layer, and the shared head.
Megatron-Core runs it on the last pipeline stage, which holds a copy of the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.scenario.parameters import prediction_layers
from simulator.workload.layers.elementwise import norm
from simulator.workload.layers.embedding_and_head import embedding_steps, final_norm, head_steps
from simulator.workload.layers.host import host_work
from simulator.workload.layers.kinds import LayerKind, layer_kinds, layer_steps
from simulator.workload.layers.linear import column_parallel, tensor_collective
from simulator.workload.layers.lower import (
    LayerOptions,
    backward_program,
    forward_program,
    weight_gradient_bytes,
    weight_gradient_program,
)
from simulator.workload.layers.operation import Exchange, Pointwise, Step
from simulator.workload.layers.plan import LayerPlan, memory_plan
from simulator.workload.program import Block
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.scenario import Model
    from simulator.workload.layers.architecture import KernelOptions
    from simulator.workload.layers.local_sizes import LocalSizes
    from simulator.workload.layers.operation import Step
    from simulator.workload.layers.plan import PlanOptions
    from simulator.workload.layers.settings import LayerSettings
    from simulator.workload.program import Program


_WORKS = 4096
"""Works that are kept, of layers as of each other kind: some 100 kB each."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SplitBackward:
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
    halves: SplitBackward | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """The multi-token-prediction modules of a model, each of which is followed by a head of its own.

    Attributes:
        kinds: The layers of one module.
        plan: How they are treated.
        count: Number of modules.
    """

    kinds: tuple[LayerKind, ...]
    plan: LayerPlan
    count: int


def predictions_of(
    model: Model, mean_document_length: float | None, options: PlanOptions
) -> Predictions | None:
    """Return the multi-token-prediction modules of a model, or None; its last layer's plan is theirs."""
    if not model.num_nextn_predict_layers:
        return None
    last = layer_kinds(model, mean_document_length)[-1]
    return Predictions(
        kinds=tuple(
            replace(last, has_experts=has_experts, block=block)
            for block, has_experts in prediction_layers(model)
        ),
        plan=options.plan(model.num_hidden_layers - 1, 0, 1),
        count=model.num_nextn_predict_layers,
    )


@lru_cache(maxsize=_WORKS)
def layer_work(kind: LayerKind, plan: LayerPlan, settings: LayerSettings) -> LayerWork:
    """Return the work of a layer.

    Args:
        kind: What tells it apart from others.
        plan: How it is treated.
        settings: What all layers have in common.
    """
    name = "layer with experts" if kind.has_experts else "layer"
    return _work(name, _lowered(kind, settings, is_low=plan.is_low), settings, plan)


@lru_cache(maxsize=_WORKS)
def embedding_work(settings: LayerSettings) -> LayerWork:
    """Return the work before the first layer."""
    return _edge_work("embedding", embedding_steps(settings.sizes, settings.model.hidden_size), settings)


def closing_works(settings: LayerSettings, predictions: Predictions | None) -> tuple[LayerWork, ...]:
    """Return the works after the last layer: prediction modules each with its head, and the head."""
    head = _head_work(settings)
    if predictions is None:
        return (head,)
    return (*[_prediction_work(predictions, settings), head] * predictions.count, head)


@dataclass(slots=True, kw_only=True, eq=False)
class LoweredLayer:
    """Steps of a layer, and its forward pass: the same whatever is kept for the backward pass.

    Attributes:
        sizes: Sizes of one rank's share.
        steps: The steps.
        forwards: The forward pass, for each number of bytes that are copied out meanwhile.
    """

    sizes: LocalSizes
    steps: list[Step]
    forwards: dict[float, Program] = field(default_factory=dict)

    def forward(self, options: LayerOptions, offloaded: float) -> Program:
        """Return the forward pass."""
        if offloaded not in self.forwards:
            self.forwards[offloaded] = forward_program(self.steps, options, offloaded)
        return self.forwards[offloaded]


@lru_cache(maxsize=_WORKS)
def _lowered(kind: LayerKind, settings: LayerSettings, *, is_low: bool) -> LoweredLayer:
    sizes = settings.sizes if is_low else settings.sizes.in_high_precision()
    return LoweredLayer(sizes=sizes, steps=layer_steps(settings, sizes, kind))


@lru_cache(maxsize=_WORKS)
def _prediction_work(predictions: Predictions, settings: LayerSettings) -> LayerWork:
    """Return the work of a multi-token-prediction module without its head."""
    plan = predictions.plan
    sizes = settings.sizes if plan.is_low else settings.sizes.in_high_precision()
    steps = joining_steps(sizes, settings.kernels, settings.model.hidden_size)
    for kind in predictions.kinds:
        steps += layer_steps(settings, sizes, kind)
    return _work("prediction module", LoweredLayer(sizes=sizes, steps=steps), settings, plan)


def _work(name: str, layer: LoweredLayer, settings: LayerSettings, plan: LayerPlan) -> LayerWork:
    sizes, steps, options = layer.sizes, layer.steps, settings.options
    memory, offloaded = memory_plan(sizes, settings.model.hidden_size, steps, plan)
    everything = sum(step.saved_bytes for step in steps)
    kept = memory.total_bytes
    forward = layer.forward(options, offloaded)
    backward = backward_program(steps, options, memory.reruns, offloaded)
    ahead, behind = host_work(steps, options, settings.cuda_graphs, memory.reruns)
    return LayerWork(
        forward=Block(f"{name}, forward", forward, ahead.captured, ahead.calls),
        backward=Block(f"{name}, backward", backward, behind.captured, behind.calls),
        saved_bytes=kept - offloaded,
        working_bytes=plan.group * everything - kept + _working_bytes(steps),
        offloaded_bytes=offloaded,
        halves=_split(name, sizes, steps, options, memory.reruns, offloaded)
        if settings.splits_backward
        else None,
    )


def _working_bytes(steps: Sequence[Step]) -> float:
    """Return the most that gradients take beside what is kept, while the backward pass goes step by step."""
    return max((step.working_bytes for step in steps if not isinstance(step, Exchange)), default=0.0)


def _split(
    name: str,
    sizes: LocalSizes,
    steps: Sequence[Step],
    options: LayerOptions,
    reruns: Mapping[int, Sequence[Step]] | None = None,
    offloaded: float = 0.0,
) -> SplitBackward:
    inputs = backward_program(steps, options, reruns, offloaded, part="input")
    return SplitBackward(
        input=Block(f"{name}, input gradient", inputs),
        weight=Block(f"{name}, weight gradient", weight_gradient_program(steps, options)),
        kept_bytes=weight_gradient_bytes(steps, sizes.element_bytes),
    )


@lru_cache(maxsize=_WORKS)
def _head_work(settings: LayerSettings) -> LayerWork:
    """Return final norm, head and loss: only the norm, where all pipeline ranks share the output layer."""
    sizes, kernels, hidden = settings.sizes, settings.kernels, settings.model.hidden_size
    steps = [final_norm(sizes, kernels, hidden)]
    if not settings.loss.shares_vocabulary:
        steps += head_steps(sizes, kernels, settings.loss, hidden)
    return _edge_work("head and loss", steps, settings)


def _edge_work(name: str, steps: Sequence[Step], settings: LayerSettings) -> LayerWork:
    """Return the work of the embedding or of the head, of which nothing is ever recomputed."""
    options = replace(settings.options, overlaps_tp=False)
    ahead, behind = host_work(steps, options, settings.cuda_graphs)
    forward, backward = forward_program(steps, options), backward_program(steps, options)
    return LayerWork(
        forward=Block(f"{name}, forward", forward, ahead.captured, ahead.calls),
        backward=Block(f"{name}, backward", backward, behind.captured, behind.calls),
        saved_bytes=sum(step.saved_bytes for step in steps),
        working_bytes=_working_bytes(steps),
        halves=_split(name, settings.sizes, steps, options) if settings.splits_backward else None,
    )


def joining_steps(sizes: LocalSizes, kernels: KernelOptions, hidden: int) -> list[Step]:
    """Return what a prediction module does before its layers."""
    both = 2 * sizes.element_bytes * sizes.divided_tokens * 2 * hidden
    joined = Elementwise(name="prediction_join", bytes_moved=both)
    return [
        *embedding_steps(sizes, hidden),
        norm(sizes, kernels, "prediction_embedding_norm", hidden),
        norm(sizes, kernels, "prediction_hidden_norm", hidden),
        Pointwise(forward=(joined,), backward=(joined,)),
        *column_parallel(sizes, kernels, "prediction_projection", hidden // sizes.tp.size, 2 * hidden),
        *_gathered(sizes, hidden),
    ]


def _gathered(sizes: LocalSizes, hidden: int) -> list[Step]:
    """Gather the projection's columns, of which each rank keeps its tokens with sequence parallelism."""
    gather = tensor_collective(sizes, "all_gather", sizes.tokens, hidden, "prediction_gather")
    if gather is None:
        return []
    back = tensor_collective(sizes, "reduce_scatter", sizes.tokens, hidden, "prediction_scatter")
    return [Exchange(forward=gather, backward=back, stream="tp")]
