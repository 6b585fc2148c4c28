"""Copies that take padding out of attention's operands and put it back into its result.

Flash-attention's ``bert_padding``: rows of queries, keys and values are gathered by index, whether any is
padding or not; the rows of the result are scattered into zeros. Backward, the copies go the other way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.operation import Pointwise, Step
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.workload.layers.context_parallel import HeldTensors


def around_padding(held: HeldTensors) -> tuple[Step, Step]:
    """Return what runs before and after the attention kernel of a stack that unpads its operands.

    A gathered tensor is read and written; a scattered one is cleared before. The kernel keeps its own result
    besides the padded one that the projection keeps.
    """
    operands = held.query + held.key_value
    before = Pointwise(
        forward=(Elementwise(name="unpad", bytes_moved=2 * operands, kernels=3),),
        backward=(Elementwise(name="unpad_grad", bytes_moved=3 * operands, kernels=6),),
    )
    after = Pointwise(
        forward=(Elementwise(name="pad", bytes_moved=3 * held.result, kernels=2),),
        backward=(Elementwise(name="pad_grad", bytes_moved=2 * held.result),),
        saved_bytes=held.result,
    )
    return before, after
