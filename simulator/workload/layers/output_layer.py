"""The output layer divided among all pipeline ranks (vocabulary parallelism, Yeung et al., arXiv:2411.05288).

Each rank holds a part of the rows of the embedding and of the head. The last stage's result goes to all
ranks; each makes its logits and its sums for the softmax (S), the ranks add these up, and each makes its
part of the gradients (T). In ``vocab-1`` T makes the input gradient, summed up in a second exchange; in
``vocab-2`` S does, before the sums are known, and one exchange rescales and adds it. Byte counts follow the
published code (sail-sg/VocabularyParallelism, ``vocab_output.py`` and ``vocab_parallel_schedule.py``):
exchanges are in fp32, and every rank looks up its rows of the embedding beside S and accumulates their
gradients beside T. The input layer's exchanges hide behind other passes and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.workload.layers.embedding_and_head import head_steps
from simulator.workload.layers.lower import (
    LayerOptions,
    backward_program,
    forward_program,
    weight_gradient_program,
)
from simulator.workload.layers.operation import Pointwise
from simulator.workload.program import Block, BlockSequence
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.scenario.parallelism import VocabularyMethod
    from simulator.workload.layers.local_sizes import LocalSizes
    from simulator.workload.layers.settings import LayerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLayer:
    """One rank's part of the output layer.

    Attributes:
        forward: Pass S.
        backward: Pass T.
        saved_bytes: Activations from S to T: the input, and the softmax of the rank's logits.
    """

    forward: BlockSequence
    backward: BlockSequence
    saved_bytes: float


@lru_cache(maxsize=256)
def output_layer(settings: LayerSettings, pp: int, method: VocabularyMethod) -> OutputLayer:
    """Return the passes of one rank; the final norm stays with the last stage.

    The softmax is never fused: its sums go to other ranks before it is finished (``VocabParallelOutput``).

    Args:
        settings: What the layers have in common.
        pp: Pipeline ranks that share the vocabulary.
        method: Whether ``vocab-1`` or ``vocab-2``.
    """
    hidden, loss = settings.model.hidden_size, replace(settings.loss, fused=False)
    sizes = replace(settings.sizes, vocabulary=-(-settings.sizes.vocabulary // pp))
    steps = [
        _casts(sizes, hidden),
        *head_steps(sizes, settings.kernels, loss, hidden),
        _rescaled(sizes, again=method == "vocab-2"),
    ]
    options = replace(settings.options, overlaps_tp=False)
    logits = Block("output layer, S", forward_program(steps, options))
    saved = sum(step.saved_bytes for step in steps)
    first: tuple[Block, ...] = (logits,)
    if method == "vocab-2":
        inputs = Block("output layer, input gradient", backward_program(steps, options, part="input"))
        weights = Block("output layer, T", weight_gradient_program(steps, options))
        first, second = (logits, inputs), weights
    else:
        gradients = Block("output layer, T", backward_program(steps, options))
        second = gradients
    look_up, accumulate = _input_layer(sizes, hidden, options)
    return OutputLayer(
        forward=BlockSequence("output layer, S", tuple((block, 1) for block in (look_up, *first))),
        backward=BlockSequence("output layer, T", tuple((block, 1) for block in (second, accumulate))),
        saved_bytes=saved,
    )


def _casts(sizes: LocalSizes, hidden: int) -> Pointwise:
    """Return what surrounds the exchanges: the input is copied out of its fp32 buffer and cast.

    Backward, the target rows of the head are gathered and masked, and the input gradient in fp32 is scaled
    and lessened by them.
    """
    elements, e = sizes.tokens * hidden, sizes.element_bytes
    copied = Elementwise(name="output layer, input", bytes_moved=elements * (4 + 4 + 4 + e), kernels=2)
    gathered = 2 * e + 2 * e + (4 + 4) + (4 + e + 4)
    lessened = Elementwise(name="output layer, input gradient", bytes_moved=elements * gathered, kernels=4)
    return Pointwise(forward=(copied,), backward=(lessened,))


def _rescaled(sizes: LocalSizes, *, again: bool) -> Pointwise:
    """Return what T does to the softmax of the rank's own logits: it is divided by the sum of all ranks.

    ``vocab-2`` has cast that softmax for its input gradient already, and T casts it again.
    """
    cast_bytes = 4 + sizes.element_bytes if again else 0
    size = sizes.tokens * sizes.vocabulary * (8.0 + cast_bytes)
    kernel = Elementwise(name="soft-max, rescaled", bytes_moved=size, kernels=2 if again else 1, exact=True)
    return Pointwise(forward=(), backward=(kernel,))


def _input_layer(sizes: LocalSizes, hidden: int, options: LayerOptions) -> tuple[Block, Block]:
    """Return one rank's part of the input layer.

    Forward: look-up and mask. Backward: a dense gradient of the rank's rows is cleared, filled, and added
    to the accumulated one.
    """
    elements, e = sizes.tokens * hidden, sizes.element_bytes
    rows = sizes.vocabulary * hidden
    accumulated = rows * (e + e + 2 * options.gradient_bytes)
    looked_up = Elementwise(name="input layer", bytes_moved=elements * 4 * e, kernels=2)
    added = Elementwise(name="input layer, gradient", bytes_moved=accumulated + elements * 3 * e, kernels=3)
    forward, backward = (
        forward_program([Pointwise(forward=(kernel,), backward=())], options) for kernel in (looked_up, added)
    )
    return Block("input layer, forward", forward), Block("input layer, backward", backward)
