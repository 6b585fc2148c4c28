"""What only the first and the last stage do: token embedding, final norm, vocabulary head and loss."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.workload.layers.elementwise import norm
from simulator.workload.layers.linear import column_parallel, tensor_collective
from simulator.workload.layers.operation import Exchange, Pointwise, Step
from simulator.workload.work import Collective, CollectiveKind, Elementwise

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.layers.local_sizes import Shapes

_SORTED_SUM_BYTES = 82.0


def embedding_steps(scenario: Scenario, shapes: Shapes) -> list[Step]:
    """Return the look-up of a vocabulary-parallel table: rows in, activations out, partial results summed.

    Backward, PyTorch sorts the tokens and adds their gradients row by row (``embedding_dense_backward``); an
    H100 takes 0.93 ms for 8,192 rows of 4,096 values, as long as 82 bytes per value would stream.
    """
    hidden, e = scenario.model.hidden_size, shapes.element_bytes
    size = shapes.tokens * hidden * e
    look_up = Elementwise(name="embedding", bytes_moved=2 * size)
    scatter = Elementwise(name="embedding_grad", bytes_moved=_SORTED_SUM_BYTES * shapes.tokens * hidden)
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
    vocabulary-parallel cross entropy; ``fused_cross_entropy.py`` sends the last two together). Fused, logits
    are kept in the activation format, else their soft-max in fp32. A stack that gathers the logits runs the
    loss over the whole vocabulary on every rank. In chunks of tokens, the logits of one chunk exist at a
    time.
    """
    hidden, chunks = scenario.model.hidden_size, scenario.training.loss_chunks
    part = replace(
        shapes, tokens=shapes.tokens // chunks, divided_tokens=max(1, shapes.divided_tokens // chunks)
    )
    chunk = [
        *column_parallel(scenario, part, "head", shapes.vocabulary, hidden, dtype=shapes.dtype),
        *_loss_exchange(scenario, part),
        _cross_entropy(scenario, part),
        *_loss_metrics(scenario, part),
    ]
    # The loss of a chunk leaves gradients of the head's input, and no logits, before the next one starts.
    return [norm(scenario, shapes, "final_norm", hidden), *chunk, *map(_without_logits, chunk * (chunks - 1))]


def _without_logits(step: Step) -> Step:
    return replace(step, saved_bytes=0.0) if isinstance(step, Pointwise) else step


def _loss_exchange(scenario: Scenario, shapes: Shapes) -> list[Step]:
    """Exchange each token's numbers: three fp32 messages, or the last two in one where the loss is fused."""
    if shapes.tp.size == 1:
        return []
    if scenario.software.gathers_logits:
        width = shapes.vocabulary * shapes.tp.size
        gather = tensor_collective(shapes, "all_gather", shapes.tokens, width, "logits_gather")
        # Gathered pieces are copied into tensors of their own and joined along the vocabulary (torch.cat).
        joined = Elementwise(
            name="logits_join",
            bytes_moved=4.0 * shapes.tokens * width * shapes.element_bytes,
            kernels=shapes.tp.size + 1,
            exact=True,
        )
        return [
            Exchange(forward=gather, backward=None, stream="tp"),
            Pointwise(forward=(joined,), backward=()),
        ]
    values = (1, 2) if "cross_entropy" in scenario.software.fused else (1, 1, 1)
    each = 4.0 * shapes.tokens
    return [
        Exchange(
            forward=Collective(kind="all_reduce", group=shapes.tp, bytes=each * count, name="loss_reduce"),
            backward=None,
            stream="tp",
        )
        for count in values
    ]


def _cross_entropy(scenario: Scenario, shapes: Shapes) -> Pointwise:
    """Return the loss and its gradient, which read and write every logit several times.

    In place (Megatron's ``cross_entropy.py``): a cast to fp32, maximum, difference, exponential, sum and
    quotient; backward a product and the cast back. Out of place (``torch.nn.functional.cross_entropy``): the
    cast and a log-soft-max that reads a row three times and writes it; backward a cleared gradient with one
    entry per token, that of the log-soft-max, which reads the former twice and the result once, and the cast
    back (PyTorch, ``SoftMax.cu``: one block a row; rows of 100,000 entries do not stay in the cache).
    """
    logits, e = shapes.tokens * shapes.vocabulary, shapes.element_bytes
    if scenario.software.gathers_logits:
        logits *= shapes.tp.size
    fused = "cross_entropy" in scenario.software.fused
    cast = e + 4
    if fused:
        forward, backward = 2 * e, 2 * e
    elif scenario.software.loss_in_place:
        forward, backward = cast + 4 + 8 + 8 + 4 + 8, 8 + cast
    else:
        forward, backward = cast + 3 * 4 + 4, 4 + 3 * 4 + 4 + cast
    # Out of place, the gradients of the loss and of the log-soft-max exist beside the soft-max, in fp32; over
    # a divided vocabulary the exponentials and their sum with the former do (PyTorch,
    # distributed/tensor/parallel/loss.py, _nll_loss_and_log_softmax_backward).
    out_of_place = 4.0 + 4.0 if shapes.tp.size == 1 or scenario.software.gathers_logits else 4.0 + 4.0 + 4.0
    working = 0.0 if fused or scenario.software.loss_in_place else out_of_place
    held = e if scenario.software.holds_last_output else 0.0
    there, back = (2, 1) if fused else (7, 3)
    return Pointwise(
        forward=(Elementwise(name="loss", bytes_moved=logits * forward, kernels=there, exact=True),),
        backward=(Elementwise(name="loss_grad", bytes_moved=logits * backward, kernels=back, exact=True),),
        saved_bytes=logits * (e if fused else 4 + held),
        working_bytes=logits * (working + held),
    )


def _loss_metrics(scenario: Scenario, shapes: Shapes) -> list[Step]:
    """Return what training metrics compute from the logits: a cast to fp32, log-soft-max and a look-up each.

    Composer's ``LanguageCrossEntropy`` runs ``torch.nn.CrossEntropyLoss`` without gradients under autocast.
    """
    metrics, logits = scenario.software.loss_metrics, shapes.tokens * shapes.vocabulary
    if not metrics:
        return []
    per_logit = (shapes.element_bytes + 4) + (4 + 4)
    size = logits * metrics * per_logit
    kernel = Elementwise(name="loss_metrics", bytes_moved=size, kernels=3 * metrics, exact=True)
    return [Pointwise(forward=(kernel,), backward=())]
