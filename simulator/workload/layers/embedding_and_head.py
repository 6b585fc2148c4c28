"""What only the first and the last stage do: token embedding, final norm, vocabulary head and loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.workload.layers.elementwise import norm
from simulator.workload.layers.linear import column_parallel, tensor_collective
from simulator.workload.layers.operation import Exchange, Pointwise, Step
from simulator.workload.work import Collective, CollectiveKind, Elementwise

if TYPE_CHECKING:
    from simulator.scenario import Software
    from simulator.workload.layers.architecture import KernelOptions
    from simulator.workload.layers.local_sizes import LocalSizes

_SORTED_SUM_BYTES = 82.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """How the vocabulary head and the loss run.

    Attributes:
        chunks: Chunks of tokens that they run over one after the other.
        fused: Whether the loss is one kernel each way.
        in_place: Whether the gradient of the logits overwrites their softmax.
        gathers_logits: Whether tensor-parallel ranks gather the logits and each runs the whole loss.
        holds_output: Whether the output of a micro-batch is still held during the next one.
        metrics: Training metrics that compute the loss again from its logits.
        shares_vocabulary: Whether all pipeline ranks share head and loss; see ``output_layer``.
    """

    chunks: int
    fused: bool
    in_place: bool
    gathers_logits: bool
    holds_output: bool
    metrics: int
    shares_vocabulary: bool

    @classmethod
    def of(cls, software: Software, *, chunks: int, shares_vocabulary: bool) -> LossOptions:
        """Return how a stack runs head and loss; see the attributes."""
        return cls(
            chunks=chunks,
            fused="cross_entropy" in software.fused,
            in_place=software.loss_in_place,
            gathers_logits=software.gathers_logits,
            holds_output=software.holds_last_output,
            metrics=software.loss_metrics,
            shares_vocabulary=shares_vocabulary,
        )


def embedding_steps(sizes: LocalSizes, hidden: int) -> list[Step]:
    """Return the look-up of a vocabulary-parallel table: rows in, activations out, partial results summed.

    Backward, PyTorch sorts the tokens and adds their gradients row by row (``embedding_dense_backward``); an
    H100 takes 0.93 ms for 8,192 rows of 4,096 values, as long as 82 bytes per value would stream.
    """
    size = sizes.tokens * hidden * sizes.element_bytes
    look_up = Elementwise(name="embedding", bytes_moved=2 * size)
    scatter = Elementwise(name="embedding_grad", bytes_moved=_SORTED_SUM_BYTES * sizes.tokens * hidden)
    steps: list[Step] = [Pointwise(forward=(look_up,), backward=(scatter,), saved_bytes=8.0 * sizes.tokens)]
    divides = sizes.sequence_parallel
    kind: CollectiveKind = "reduce_scatter" if divides else "all_reduce"
    total = tensor_collective(sizes, kind, sizes.tokens, hidden, "embedding_reduce")
    if total is not None:
        gather = tensor_collective(sizes, "all_gather", sizes.tokens, hidden, "embedding_grad_gather")
        steps.append(Exchange(forward=total, backward=gather if divides else None, stream="tp"))
    return steps


def final_norm(sizes: LocalSizes, kernels: KernelOptions, hidden: int) -> Step:
    """Return the norm behind the last layer."""
    return norm(sizes, kernels, "final_norm", hidden)


def head_steps(sizes: LocalSizes, kernels: KernelOptions, loss: LossOptions, hidden: int) -> list[Step]:
    """Return vocabulary-parallel head and cross entropy.

    The loss exchanges the maximum, the predicted logit and the sum of exponentials of each token (Megatron's
    vocabulary-parallel cross entropy; ``fused_cross_entropy.py`` sends the last two together). Fused, logits
    are kept in the activation format, else their softmax in fp32. A stack that gathers the logits runs the
    loss over the whole vocabulary on every rank. In chunks of tokens, the logits of one chunk exist at a
    time.
    """
    chunks = loss.chunks
    part = replace(
        sizes, tokens=sizes.tokens // chunks, divided_tokens=max(1, sizes.divided_tokens // chunks)
    )
    chunk = [
        *column_parallel(part, kernels, "head", sizes.vocabulary, hidden, dtype=sizes.dtype),
        *_loss_exchange(part, loss),
        _cross_entropy(part, loss),
        *_loss_metrics(part, loss.metrics),
    ]
    # The loss of a chunk leaves gradients of the head's input, and no logits, before the next one starts.
    return [*chunk, *map(_without_logits, chunk * (chunks - 1))]


def _without_logits(step: Step) -> Step:
    return replace(step, saved_bytes=0.0) if isinstance(step, Pointwise) else step


def _loss_exchange(sizes: LocalSizes, loss: LossOptions) -> list[Step]:
    """Exchange each token's numbers: three fp32 messages, or the last two in one where the loss is fused."""
    if sizes.tp.size == 1:
        return []
    if loss.gathers_logits:
        width = sizes.vocabulary * sizes.tp.size
        gather = tensor_collective(sizes, "all_gather", sizes.tokens, width, "logits_gather")
        # Gathered parts are copied into tensors of their own and joined along the vocabulary (torch.cat).
        joined = Elementwise(
            name="logits_join",
            bytes_moved=4.0 * sizes.tokens * width * sizes.element_bytes,
            kernels=sizes.tp.size + 1,
            exact=True,
        )
        return [
            Exchange(forward=gather, backward=None, stream="tp"),
            Pointwise(forward=(joined,), backward=()),
        ]
    values = (1, 2) if loss.fused else (1, 1, 1)
    size = 4.0 * sizes.tokens
    return [
        Exchange(
            forward=Collective(kind="all_reduce", group=sizes.tp, bytes=size * count, name="loss_reduce"),
            backward=None,
            stream="tp",
        )
        for count in values
    ]


def _cross_entropy(sizes: LocalSizes, loss: LossOptions) -> Pointwise:
    """Return the loss and its gradient, which read and write every logit several times.

    In place (Megatron's ``cross_entropy.py``): a cast to fp32, maximum, difference, exponential, sum and
    quotient; backward a product and the cast back. Out of place (``torch.nn.functional.cross_entropy``): the
    cast and a log-softmax that reads a row three times and writes it; backward a cleared gradient with one
    entry per token, that of the log-softmax, which reads the former twice and the result once, and the cast
    back (PyTorch, ``SoftMax.cu``: one block a row; rows of 100,000 entries do not stay in the cache).
    """
    logits, e = sizes.tokens * sizes.vocabulary, sizes.element_bytes
    if loss.gathers_logits:
        logits *= sizes.tp.size
    cast = e + 4
    if loss.fused:
        forward, backward = 2 * e, 2 * e
    elif loss.in_place:
        forward, backward = cast + 4 + 8 + 8 + 4 + 8, 8 + cast
    else:
        forward, backward = cast + 3 * 4 + 4, 4 + 3 * 4 + 4 + cast
    # Out of place, the gradients of the loss and of the log-softmax exist beside the softmax, in fp32; over
    # a divided vocabulary the exponentials and their sum with the former do (PyTorch,
    # distributed/tensor/parallel/loss.py, _nll_loss_and_log_softmax_backward).
    out_of_place = 4.0 + 4.0 if sizes.tp.size == 1 or loss.gathers_logits else 4.0 + 4.0 + 4.0
    working = 0.0 if loss.fused or loss.in_place else out_of_place
    held = e if loss.holds_output else 0.0
    there, back = (2, 1) if loss.fused else (7, 3)
    return Pointwise(
        forward=(Elementwise(name="loss", bytes_moved=logits * forward, kernels=there, exact=True),),
        backward=(Elementwise(name="loss_grad", bytes_moved=logits * backward, kernels=back, exact=True),),
        saved_bytes=logits * (e if loss.fused else 4 + held),
        working_bytes=logits * (working + held),
    )


def _loss_metrics(sizes: LocalSizes, metrics: int) -> list[Step]:
    """Return what training metrics compute from the logits: a cast to fp32, log-softmax and a look-up each.

    Composer's ``LanguageCrossEntropy`` runs ``torch.nn.CrossEntropyLoss`` without gradients under autocast.
    """
    if not metrics:
        return []
    logits = sizes.tokens * sizes.vocabulary
    per_logit = (sizes.element_bytes + 4) + (4 + 4)
    size = logits * metrics * per_logit
    kernel = Elementwise(name="loss_metrics", bytes_moved=size, kernels=3 * metrics, exact=True)
    return [Pointwise(forward=(kernel,), backward=())]
