"""Predicted seconds of the measured parts of a step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.costs.collectives import collective_cost
from simulator.costs.kernels import kernel_s
from simulator.costs.system import System
from simulator.durations.layers import device_s
from simulator.units import Dimension, parse_quantity
from simulator.validation.components.read import Component, read_components
from simulator.validation.statistics import ErrorSummary, summarise
from simulator.validation.timed_part import Timed
from simulator.workload.layers.experts import expert_steps
from simulator.workload.layers.kinds import layer_kinds, layer_steps
from simulator.workload.layers.lower import backward_program, forward_program
from simulator.workload.layers.operation import CoreAttention, Exchange, Step
from simulator.workload.layers.settings import layer_settings
from simulator.workload.step.settings import step_settings
from simulator.workload.step.stages import stages_of
from simulator.workload.work import Attention, Collective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Cluster, Gpu, Scenario
    from simulator.validation.components.read import Kind
    from simulator.workload.layers.kinds import LayerKind
    from simulator.workload.layers.layer_work import LayerWork
    from simulator.workload.layers.lower import LayerOptions
    from simulator.workload.layers.settings import LayerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentOutcome(Timed):
    """One part of a layer beside its measurement; its source is a citation.

    Attributes:
        kind: Which part of a layer.
        part: Which pass: ``forward``, ``backward``, ``dispatch`` or ``combine``.
    """

    kind: Kind
    part: str


def validate_components() -> tuple[ComponentOutcome, ...]:
    """Predict every measured part of the package."""
    return tuple(
        outcome for component in read_components() for outcome in outcomes_of(component, component.scenario)
    )


def component_errors(outcomes: Sequence[ComponentOutcome]) -> dict[tuple[str, str], ErrorSummary]:
    """Summarise the errors by kind and source."""
    groups: dict[tuple[str, str], list[float]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.kind, outcome.source), []).append(outcome.error)
    summaries = {key: summarise(errors, [0.0] * len(errors)) for key, errors in groups.items()}
    return {key: summary for key, summary in summaries.items() if summary is not None}


def outcomes_of(component: Component, scenario: Scenario) -> list[ComponentOutcome]:
    """Predict the passes of one measured part.

    Args:
        component: What was measured.
        scenario: Its scenario, with other constants if need be; its clock is the component's. A clock above
            the sustained one has used up what resting yields.
    """
    gpu = scenario.cluster.gpu
    clocks = dict.fromkeys(gpu.peak_flop_per_s, component.clock)
    power = gpu.power if component.clock == 1.0 else None
    gpu = replace(gpu, training_clock=clocks, power=power)
    scenario = replace(scenario, cluster=replace(scenario.cluster, gpu=gpu))
    predicted = _predicted(component.kind, scenario)
    return [
        ComponentOutcome(
            id=component.id,
            source=component.source,
            kind=component.kind,
            part=part,
            predicted_s=predicted[part][0],
            measured_s=_seconds(text, predicted[part][1]),
        )
        for part, text in component.measured.items()
    ]


def _seconds(text: str, flops: float) -> float:
    if "FLOP" in text:
        return flops / parse_quantity(text, Dimension.FLOP_PER_S)
    return parse_quantity(text, Dimension.TIME)


Predicted = dict[str, tuple[float, float]]
"""By pass, seconds and FLOPs."""


def _predicted(kind: Kind, scenario: Scenario) -> Predicted:
    """Return what one kind of part takes in a scenario."""
    settings, system = layer_settings(scenario), System.of(scenario)
    if kind == "layer":
        stages = stages_of(step_settings(scenario).stages, settings)
        return _layer(stages[0].works[1], system)  # the embedding comes first
    if kind == "attention":
        kinds = layer_kinds(scenario.model, scenario.training.mean_document_length)
        return _attention(settings, kinds[0], system.cluster.gpu)
    steps = _expert_steps(settings, scenario.name)
    return (
        _experts(steps, settings.options, system) if kind == "experts" else _exchange(steps, system.cluster)
    )


def _experts(steps: Sequence[Step], options: LayerOptions, system: System) -> Predicted:
    return {
        "forward": (device_s(forward_program(steps, options), system), 0.0),
        "backward": (device_s(backward_program(steps, options), system), 0.0),
    }


def _expert_steps(settings: LayerSettings, name: str) -> list[Step]:
    model = settings.model
    if model.experts is None or settings.experts is None:
        raise ValueError(f"{name}: the model has no experts")
    return expert_steps(settings.sizes, model, settings.kernels, model.experts, settings.experts)


def _layer(work: LayerWork, system: System) -> Predicted:
    return {
        "forward": (device_s(work.forward.program, system), 0.0),
        "backward": (device_s(work.backward.program, system), 0.0),
    }


def _exchange(steps: Sequence[Step], cluster: Cluster) -> Predicted:
    messages = [
        step.forward for step in steps if isinstance(step, Exchange) and isinstance(step.forward, Collective)
    ]
    return {message.name: (collective_cost(message, cluster).alone_s, 0.0) for message in messages}


def _attention(settings: LayerSettings, kind: LayerKind, gpu: Gpu) -> Predicted:
    steps = layer_steps(settings, settings.sizes, kind)
    (core,) = (step for step in steps if isinstance(step, CoreAttention))
    kernels = [work for work in (*core.forward, *core.backward) if isinstance(work, Attention)]
    return {work.direction: (kernel_s(work, gpu), work.flops) for work in kernels}
