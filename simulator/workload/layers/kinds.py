"""Kinds of layers: what tells them apart, and the steps of each.

In layers with parallel blocks attention and feed-forward read the same input, as in PaLM (arXiv:2204.02311,
section 2) and GPT-J: ``x + attention(norm(x)) + feed_forward(norm(x))``. Tensor parallelism gathers the input
once for both, adds their partial results before one reduction, and likewise their input gradients (GPT-NeoX,
``gpt_j_residual``: "reduce only once").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.workload.layers.attention import attention_steps
from simulator.workload.layers.attention_mask import Mask
from simulator.workload.layers.elementwise import residual
from simulator.workload.layers.feed_forward import feed_forward_steps
from simulator.workload.layers.mamba import mamba_steps
from simulator.workload.layers.operation import Linear, Pointwise, Step, within
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from collections.abc import Sequence

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


BLOCK_PRODUCTS = 2
"""A dense block multiplies into itself and out again; latent attention and experts share nothing."""


def side_by_side(
    sizes: LocalSizes, hidden: int, attention: Sequence[Step], feed_forward: Sequence[Step]
) -> list[Step]:
    """Join the steps of both blocks, with the collectives that they share run once.

    Backward runs from the last step to the first: the output gradient is gathered for the feed-forward's last
    product, the input again for its first one, and the input gradients are reduced after the attention's.
    """
    opening, closing = _products(attention), _products(feed_forward)
    if len(opening) != BLOCK_PRODUCTS or len(closing) != BLOCK_PRODUCTS:
        return [*attention, *feed_forward]
    size = 3.0 * sizes.element_bytes * sizes.tokens * hidden
    gradient = Pointwise(forward=(), backward=(Elementwise(name="block_sum_grad", bytes_moved=size),))
    result = Pointwise(forward=(Elementwise(name="block_sum", bytes_moved=size),), backward=())
    steps: list[Step] = []
    for number, step in enumerate(attention):
        if number == opening[0] and isinstance(step, Linear):
            steps += [replace(step, regather_input=None), gradient]
        elif number == opening[1] and isinstance(step, Linear):
            steps.append(replace(step, reduce_output=None, gather_gradient=None))
        else:
            steps.append(step)
    for number, step in enumerate(feed_forward):
        if number == closing[0] and isinstance(step, Linear):
            steps.append(replace(step, gather_input=None, reduce_gradient=None, saved_bytes=0.0))
        elif number == closing[1]:
            steps += [result, step]
        else:
            steps.append(step)
    return steps


def _products(steps: Sequence[Step]) -> list[int]:
    """Return where the matrix multiplications of a block stand."""
    return [number for number, step in enumerate(steps) if isinstance(step, Linear)]
