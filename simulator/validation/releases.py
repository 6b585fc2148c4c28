"""What older releases of Megatron-Core do otherwise than the stack of today in the catalogue."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.validation.rows import Row

_STACK = re.compile(r"megatron.?core", re.IGNORECASE)
_EARLY = re.compile(r"PyTorch 2\.[0-6]\b")


def is_early(row: Row) -> bool:
    """Tell whether a row ran Megatron-Core 0.11 or older with Transformer Engine before 2.1, by its PyTorch.

    Those releases route and permute tokens eagerly (v0.11, moe_utils.py: "fused_permute is not available.
    Please install TE >= 2.1.0"; a fused router came later).
    """
    return bool(_STACK.search(row.stack or "") and _EARLY.search(row.notes))


def runs_in_one_queue(row: Row) -> bool:
    """Tell whether gradients that FSDP reduce-scatters keep the next layer's kernels waiting.

    Those releases ran with CUDA_DEVICE_MAX_CONNECTIONS=1: v0.11, training/arguments.py, refuses sequence
    parallelism without it, and github:yanring/Megatron-MoE-ModelZoo (commit 78fd4d6) sets it for all models.
    All streams then feed one hardware queue. Backward, the next gather follows the reduce-scatter on its
    communicator; waiting for that at the head of the queue, it holds up the kernels behind it. Forward,
    gathers find nothing to wait for. ("FSDP2 requires not setting CUDA_DEVICE_MAX_CONNECTIONS=1 for better
    parallelization", the same file.)
    """
    return is_early(row) and row.parallel.fsdp is not None
