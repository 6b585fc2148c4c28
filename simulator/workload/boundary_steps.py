"""What only the first and the last stage do: token embedding, final norm, vocabulary head and loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layer_steps import Exchange, Pointwise, Step
from simulator.workload.linear import column_parallel, tensor_collective
from simulator.workload.pointwise import norm
from simulator.workload.work import Collective, CollectiveKind, Elementwise

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.shapes import Shapes


def embedding_steps(scenario: Scenario, shapes: Shapes) -> list[Step]:
    """Return the look-up of a vocabulary-parallel table: rows in, activations out, partial results summed."""
    hidden, e = scenario.model.hidden_size, shapes.element_bytes
    size = shapes.tokens * hidden * e
    look_up = Elementwise(name="embedding", bytes_moved=2 * size)
    scatter = Elementwise(name="embedding_grad", bytes_moved=size + 8.0 * shapes.tokens * hidden)
    steps: list[Step] = [Pointwise(forward=(look_up,), backward=(scatter,), saved_bytes=8.0 * shapes.tokens)]
    divides = scenario.parallelism.sequence_parallel
    kind: CollectiveKind = "reduce_scatter" if divides else "all_reduce"
    total = tensor_collective(shapes, kind, shapes.tokens, hidden, "embedding_reduce")
    if total is not None:
        gather = tensor_collective(shapes, "all_gather", shapes.tokens, hidden, "embedding_grad_gather")
        steps.append(Exchange(forward=total, backward=gather if divides else None, stream="tp"))
    return steps


def head_steps(scenario: Scenario, shapes: Shapes) -> list[Step]:
    """Return final norm, vocabulary-parallel head and cross entropy.

    The loss exchanges the maximum, the predicted logit and the sum of exponentials of each token (Megatron's
    vocabulary-parallel cross entropy). Logits are kept in the activation format, their soft-max in fp32.
    """
    hidden = scenario.model.hidden_size
    return [
        norm(scenario, shapes, "final_norm", hidden),
        *column_parallel(scenario, shapes, "head", shapes.vocabulary, hidden, dtype=shapes.dtype),
        *_loss_exchange(shapes),
        _cross_entropy(scenario, shapes),
    ]


def _loss_exchange(shapes: Shapes) -> list[Step]:
    if shapes.tp.size == 1:
        return []
    total = Collective(kind="all_reduce", group=shapes.tp, bytes=4.0 * shapes.tokens, name="loss_reduce")
    return [Exchange(forward=total, backward=None, stream="tp")] * 3


def _cross_entropy(scenario: Scenario, shapes: Shapes) -> Pointwise:
    logits, e = shapes.tokens * shapes.vocabulary, shapes.element_bytes
    fused = "cross_entropy" in scenario.software.fused
    forward, backward = (2 * e, 2 * e) if fused else (e + 4 + 5 * 4, 2 * 4 + 4 + e)
    return Pointwise(
        forward=(Elementwise(name="loss", bytes_moved=logits * forward, kernels=2 if fused else 7),),
        backward=(Elementwise(name="loss_grad", bytes_moved=logits * backward, kernels=1 if fused else 3),),
        saved_bytes=logits * (e if fused else e + 4),
    )
