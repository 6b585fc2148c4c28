"""Multi-token prediction: a module joins the model's output with the embedding of the next token.

DeepSeek-V3, arXiv:2412.19437, section 2.2: two norms, a projection of 2h to h, one more layer, and the shared
head; Megatron-Core runs it on the last pipeline stage, which holds a copy of the embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.elementwise import norm
from simulator.workload.layers.embedding_and_head import embedding_steps
from simulator.workload.layers.linear import column_parallel, tensor_collective
from simulator.workload.layers.operation import Exchange, Pointwise, Step
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.workload.layers.architecture import KernelOptions
    from simulator.workload.layers.local_sizes import LocalSizes


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
