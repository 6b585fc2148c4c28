"""Seconds of fused attention kernels: FlashAttention 1 to 3 and cuDNN.

One thread block takes ``block_rows`` queries (backward: keys) and walks along the other side. Per query-key
pair it does 2 (d_qk + d_v) FLOPs of matrix products (2.5 times that backward) and one soft-max element, whose
time is that of products ``softmax_width`` wide and does not shrink with the operands' number format:

    s_per_pair = passes (2 (d_qk + d_v) / peak(dtype) + 4 softmax_width / peak(16 bit)) / fraction

Blocks pay a fixed time, ``overhead_length`` pairs per row, and compute ``edge_length`` masked pairs per row
along each edge of the mask (none: full attention, one: causal, two: sliding window). Blocks are handed to
multiprocessors as these get free, so the kernel ends at most one block late (Graham's list-scheduling bound):

    t = all blocks / multiprocessors + TAIL * longest block

FlashAttention-3 (arXiv:2407.08608) explains the soft-max term: exponentials run at 3.9 TFLOP/s on an H100.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from simulator.costs.formats import OPERAND_BYTES, peak_flop_per_s
from simulator.costs.systolic import padded
from simulator.errors import Problem, ScenarioError, did_you_mean

if TYPE_CHECKING:
    from simulator.scenario.gpu import AttentionPass, Gpu
    from simulator.workload.work import Attention

TAIL = 0.7
BACKWARD_PASSES = 2.5
PADS_VALUES = frozenset({"flash1", "flash2"})
"""Kernels with one width for keys and values: callers pad (modeling_deepseek.py of DeepSeek-V3, F.pad)."""


def attention_s(work: Attention, gpu: Gpu) -> float:
    """Return the device seconds of one attention kernel, without its launch by the host.

    Args:
        work: The attention of all sequences and heads on this rank.
        gpu: Where it runs.

    Raises:
        ScenarioError: The GPU has no measured efficiency of the kernel, or lacks the number format.
    """
    efficiency = gpu.attention.get(work.kernel)
    if efficiency is None:
        hint = did_you_mean(work.kernel, gpu.attention) or f"; it has {', '.join(sorted(gpu.attention))}"
        message = f"no attention kernel {work.kernel!r} on {gpu.name}{hint}"
        raise ScenarioError([Problem(message, path="training.attention")])
    reached = efficiency.forward if work.direction == "forward" else efficiency.backward
    pair_on_one_s = pair_s(work, reached, gpu) * gpu.multiprocessors
    computed_s = blocks_s(work, reached, pair_on_one_s, gpu.multiprocessors)
    return max(computed_s, tensor_bytes(work) / gpu.memory_bytes_per_s)


def pair_s(work: Attention, reached: AttentionPass, gpu: Gpu) -> float:
    """Return the seconds that the whole GPU needs for one query-key pair of one head."""
    passes = 1.0 if work.direction == "forward" else BACKWARD_PASSES
    head_dim = padded(work.head_dim, gpu.matrix_unit)
    value_dim = padded(work.value_dim, gpu.matrix_unit)
    value_dim = max(head_dim, value_dim) if work.kernel in PADS_VALUES else value_dim
    products = 2.0 * (head_dim + value_dim) / peak_flop_per_s(gpu, work.dtype)
    half = "bf16" if "bf16" in gpu.peak_flop_per_s else "fp16"
    softmax = 4.0 * reached.softmax_width / peak_flop_per_s(gpu, half)
    return passes * (products + softmax) / reached.fraction


def blocks_s(work: Attention, reached: AttentionPass, pair_s: float, multiprocessors: int) -> float:
    """Return the seconds until the last block is done.

    Args:
        work: The attention.
        reached: Efficiency of its direction.
        pair_s: Seconds of one query-key pair on one multiprocessor.
        multiprocessors: How many there are.

    One head over 1,024 positions without a mask, 128 rows per block, is 8 blocks of 128 x 1,024 pairs.
    At 1 ns per pair, 4 multiprocessors need 2 x 131 us for them and the last block ends 0.7 x 131 us late.

    >>> from simulator.scenario import AttentionPass
    >>> from simulator.workload.work import Attention
    >>> work = Attention(sequences=1, heads=1, kv_heads=1, head_dim=128, value_dim=128, seq_q=1024,
    ...                  seq_kv=1024, pairs=1024.0**2, kernel="flash2", dtype="bf16", direction="forward")
    >>> ideal = AttentionPass(fraction=1.0, softmax_width=0.0, overhead_length=0.0, edge_length=0.0,
    ...                       block_rows=128)
    >>> round(blocks_s(work, ideal, 1e-9, 4) * 1e6, 1)
    353.9
    """
    forward = work.direction == "forward"
    rows, columns = (work.seq_q, work.seq_kv) if forward else (work.seq_kv, work.seq_q)
    masked = 1.0 - work.pairs / (rows * columns)
    wasted = 2.0 * masked * min(reached.edge_length, columns / 2.0)
    walked = work.pairs / rows + wasted
    blocks = work.sequences * work.heads * ceil(rows / reached.block_rows)
    row_s = reached.block_rows * pair_s
    all_s = blocks * (walked + reached.overhead_length) * row_s / multiprocessors
    longest_s = (min(columns, 2.0 * walked) + reached.overhead_length) * row_s
    return all_s + TAIL * longest_s


def tensor_bytes(work: Attention) -> float:
    """Return the bytes of queries, keys, values and results, and backward of their gradients."""
    widths = work.head_dim + work.value_dim
    elements = work.sequences * widths * (work.heads * work.seq_q + work.kv_heads * work.seq_kv)
    return elements * OPERAND_BYTES[work.dtype] * (1.0 if work.direction == "forward" else 2.0)
