"""Kinds of layers: what tells them apart, and the steps of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.workload.layers.attention import attention_steps
from simulator.workload.layers.attention_mask import Mask, layer_mask
from simulator.workload.layers.elementwise import residual
from simulator.workload.layers.feed_forward import feed_forward_steps
from simulator.workload.layers.mamba import mamba_steps
from simulator.workload.layers.operation import within
from simulator.workload.layers.parallel_blocks import side_by_side

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.scenario.model import Block
    from simulator.workload.layers.local_sizes import Shapes
    from simulator.workload.layers.operation import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerKind:
    """What tells the layers of a model apart.

    Attributes:
        has_experts: Whether the feed-forward block has experts.
        mask: What each query attends to.
        block: What the layer is in a hybrid model; see ``Model.layer_pattern``.
    """

    has_experts: bool
    mask: Mask
    block: Block = "layer"

    @classmethod
    def of(cls, scenario: Scenario, layer: int) -> LayerKind:
        """Return the kind of a layer of the model."""
        model = scenario.model
        mask = layer_mask(scenario, layer)
        return cls(has_experts=model.is_moe_layer(layer), mask=mask, block=model.block(layer))


def layer_steps(scenario: Scenario, shapes: Shapes, kind: LayerKind) -> list[Step]:
    """Return the steps of one layer: a transformer layer, or one block of a hybrid model."""
    after = residual(scenario, shapes)
    if kind.block == "M" and scenario.model.mamba is not None:
        return [*within("mamba", mamba_steps(scenario, shapes, scenario.model.mamba)), after]
    if kind.block == "*":
        return [*within("attn", attention_steps(scenario, shapes, kind.mask)), after]
    if kind.block != "layer":
        return [*feed_forward_steps(scenario, shapes, has_experts=kind.has_experts), after]
    attention = within("attn", attention_steps(scenario, shapes, kind.mask))
    feed_forward = feed_forward_steps(scenario, shapes, has_experts=kind.has_experts)
    if scenario.model.parallel_blocks:
        return [*side_by_side(scenario, shapes, attention, feed_forward), after]
    return [*attention, after, *feed_forward, after]
