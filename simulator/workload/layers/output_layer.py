"""The output layer divided among all pipeline ranks (vocabulary parallelism, Yeung et al., arXiv:2411.05288).

Each rank holds a part of the rows of the embedding and of the head. The last stage's result goes to all
ranks; each makes its logits and its sums for the soft-max (S), the ranks add these up, and each makes its
part of the gradients (T). In ``vocab-1`` T makes the input gradient, summed up in a second exchange; in
``vocab-2`` S does, before the sums are known, and one exchange rescales and adds it. Byte counts follow the
published code (sail-sg/VocabularyParallelism, ``vocab_output.py`` and ``vocab_parallel_schedule.py``):
exchanges are in fp32, and every rank looks up its rows of the embedding beside S and accumulates their
gradients beside T. The input layer's exchanges hide behind other passes and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.workload.layers.embedding_and_head import head_steps
from simulator.workload.layers.local_sizes import BYTES_PER_ELEMENT, shapes_of
from simulator.workload.layers.lower import (
    Habits,
    backward_program,
    forward_program,
    weight_gradient_program,
)
from simulator.workload.layers.operation import Pointwise
from simulator.workload.program import Block, BlockSequence
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.layers.local_sizes import Shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLayer:
    """One rank's part of the output layer.

    Attributes:
        forward: Pass S.
        backward: Pass T.
        saved_bytes: Activations from S to T: the input, and the soft-max of the rank's logits.
    """

    forward: BlockSequence
    backward: BlockSequence
    saved_bytes: float


def output_layer(scenario: Scenario) -> OutputLayer:
    """Return the passes of one rank; the final norm stays with the last stage.

    The soft-max is never fused: its sums go to other ranks before it is finished (``VocabParallelOutput``).
    """
    pp = scenario.parallelism.pp
    software = replace(scenario.software, fused=scenario.software.fused - {"cross_entropy"})
    scenario = replace(scenario, software=software)
    shapes = shapes_of(scenario)
    shapes = replace(shapes, vocabulary=-(-shapes.vocabulary // pp))
    steps = [_casts(scenario, shapes), *head_steps(scenario, shapes)[1:], _rescaled(scenario, shapes)]
    habits = replace(Habits.of(scenario), overlaps_tp=False)
    logits = Block("output layer, S", forward_program(steps, habits))
    saved = sum(step.saved_bytes for step in steps)
    first: tuple[Block, ...] = (logits,)
    if scenario.parallelism.vocabulary == "vocab-2":
        inputs = Block("output layer, input gradient", backward_program(steps, habits, part="input"))
        weights = Block("output layer, T", weight_gradient_program(steps, habits))
        first, second = (logits, inputs), weights
    else:
        gradients = Block("output layer, T", backward_program(steps, habits))
        second = gradients
    look_up, accumulate = _input_layer(scenario, shapes, habits)
    return OutputLayer(
        forward=BlockSequence("output layer, S", tuple((block, 1) for block in (look_up, *first))),
        backward=BlockSequence("output layer, T", tuple((block, 1) for block in (second, accumulate))),
        saved_bytes=saved,
    )


def _casts(scenario: Scenario, shapes: Shapes) -> Pointwise:
    """Return what surrounds the exchanges: the input is copied out of its fp32 buffer and cast.

    Backward, the target rows of the head are gathered and masked, and the input gradient in fp32 is scaled
    and lessened by them.
    """
    elements, e = shapes.tokens * scenario.model.hidden_size, shapes.element_bytes
    copied = Elementwise(name="output layer, input", bytes_moved=elements * (4 + 4 + 4 + e), kernels=2)
    gathered = 2 * e + 2 * e + (4 + 4) + (4 + e + 4)
    lessened = Elementwise(name="output layer, input gradient", bytes_moved=elements * gathered, kernels=4)
    return Pointwise(forward=(copied,), backward=(lessened,))


def _rescaled(scenario: Scenario, shapes: Shapes) -> Pointwise:
    """Return what T does to the soft-max of the rank's own logits: it is divided by the sum of all ranks.

    ``vocab-2`` has cast that soft-max for its input gradient already, and T casts it again.
    """
    again = 4 + shapes.element_bytes if scenario.parallelism.vocabulary == "vocab-2" else 0
    size = shapes.tokens * shapes.vocabulary * (8.0 + again)
    kernel = Elementwise(name="soft-max, rescaled", bytes_moved=size, kernels=2 if again else 1, exact=True)
    return Pointwise(forward=(), backward=(kernel,))


def _input_layer(scenario: Scenario, shapes: Shapes, habits: Habits) -> tuple[Block, Block]:
    """Return one rank's part of the input layer.

    Forward: look-up and mask. Backward: a dense gradient of the rank's rows is cleared, filled, and added
    to the accumulated one.
    """
    elements, e = shapes.tokens * scenario.model.hidden_size, shapes.element_bytes
    rows = shapes.vocabulary * scenario.model.hidden_size
    accumulated = rows * (e + e + 2 * BYTES_PER_ELEMENT[scenario.training.grad_dtype])
    found = Elementwise(name="input layer", bytes_moved=elements * 4 * e, kernels=2)
    added = Elementwise(name="input layer, gradient", bytes_moved=accumulated + elements * 3 * e, kernels=3)
    forward, backward = (
        forward_program([Pointwise(forward=(kernel,), backward=())], habits) for kernel in (found, added)
    )
    return Block("input layer, forward", forward), Block("input layer, backward", backward)
