"""Kinds of layers: what tells them apart, and the steps of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.workload.layers.attention import attention_steps
from simulator.workload.layers.attention_mask import Mask
from simulator.workload.layers.elementwise import residual
from simulator.workload.layers.feed_forward import feed_forward_steps
from simulator.workload.layers.mamba import mamba_steps
from simulator.workload.layers.operation import within
from simulator.workload.layers.parallel_blocks import side_by_side

if TYPE_CHECKING:
    from simulator.scenario import Model
    from simulator.scenario.model import Block
    from simulator.workload.layers.local_sizes import LocalSizes
    from simulator.workload.layers.operation import Step
    from simulator.workload.layers.settings import LayerSettings


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


@lru_cache(maxsize=256)
def layer_kinds(model: Model, mean_document_length: float | None) -> tuple[LayerKind, ...]:
    """Return the kind of every layer of a model.

    Args:
        model: The model.
        mean_document_length: Mean length of the documents packed into a sequence; see ``Mask``.
    """
    return tuple(
        LayerKind(
            has_experts=model.is_moe_layer(layer),
            mask=Mask(
                window=model.window(layer), chunk=model.chunk(layer), mean_document=mean_document_length
            ),
            block=model.block(layer),
        )
        for layer in range(model.num_hidden_layers)
    )


def layer_steps(settings: LayerSettings, sizes: LocalSizes, kind: LayerKind) -> list[Step]:
    """Return the steps of one layer: a transformer layer, or one block of a hybrid model.

    Args:
        settings: What all layers have in common.
        sizes: Sizes in the layer's precision.
        kind: What tells the layer apart.
    """
    model, kernels = settings.model, settings.kernels
    after = residual(sizes, model, kernels)
    if kind.block == "M" and model.mamba is not None:
        return [*within("mamba", mamba_steps(sizes, kernels, model.mamba, model.hidden_size)), after]
    feed_forward: list[Step] = []
    if kind.block != "*":
        experts = settings.experts if kind.has_experts else None
        feed_forward = feed_forward_steps(sizes, model, kernels, experts)
        if kind.block != "layer":
            return [*feed_forward, after]
    attention = within("attn", attention_steps(sizes, model, kernels, settings.attention, kind.mask))
    if kind.block == "*":
        return [*attention, after]
    if model.parallel_blocks:
        return [*side_by_side(sizes, model.hidden_size, attention, feed_forward), after]
    return [*attention, after, *feed_forward, after]
