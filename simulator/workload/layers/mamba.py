"""A Mamba-2 block: projection, short convolution, the state-space scan in chunks, gated norm, projection.

The scan runs as matrix products inside chunks and a recurrence between them (Dao and Gu, arXiv:2405.21060,
section 6); its kernels are those of github:state-spaces/mamba ``mamba_chunk_scan_combined``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.workload.layers.elementwise import norm
from simulator.workload.layers.linear import column_parallel, row_parallel
from simulator.workload.layers.operation import CoreAttention, Exchange, Kernel, Pointwise, Step, within
from simulator.workload.work import Collective, Elementwise, Scan

if TYPE_CHECKING:
    from simulator.scenario import Mamba
    from simulator.workload.layers.architecture import KernelOptions
    from simulator.workload.layers.local_sizes import LocalSizes
    from simulator.workload.work import Pass

STATE_BYTES = 4.0
"""States between chunks are kept in fp32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpaceScan:
    """Sizes of one rank's share of a scan.

    Attributes:
        chunks: Chunks of all sequences.
        length: Tokens of one chunk.
        heads: Heads.
        head_dim: Width of one head.
        groups: Groups of heads that share input and output projections.
        state: State size.
        dtype: Number format.
        element_bytes: Bytes of one of its values.
    """

    chunks: int
    length: int
    heads: int
    head_dim: int
    groups: int
    state: int
    dtype: str
    element_bytes: float

    @property
    def tokens(self) -> int:
        """Tokens of all chunks."""
        return self.chunks * self.length

    @property
    def inner_bytes(self) -> float:
        """Bytes of a tensor of all heads."""
        return self.element_bytes * self.tokens * self.heads * self.head_dim

    @property
    def shared_bytes(self) -> float:
        """Bytes of the input projection, or of the output projection, of all groups."""
        return self.element_bytes * self.tokens * self.groups * self.state

    @property
    def state_bytes(self) -> float:
        """Bytes of the states at the end of all chunks."""
        return STATE_BYTES * self.chunks * self.heads * self.head_dim * self.state

    @property
    def pair_bytes(self) -> float:
        """Bytes of the products of both projections inside chunks."""
        return STATE_BYTES * self.tokens * self.length * self.groups

    def kernel(self, name: str, inner: float, size: float, direction: Pass = "forward") -> Scan:
        """Return a kernel with ``inner`` multiplications and additions per value of all heads, times two."""
        products = 2.0 * self.tokens * self.heads * self.head_dim * inner
        return Scan(
            name=name, multiply_adds=products, bytes_moved=size, dtype=self.dtype, direction=direction
        )

    def between(self, name: str, size: float, direction: Pass = "forward") -> Scan:
        """Return the products of both projections of each group inside chunks; the mask leaves half."""
        products = self.tokens * self.groups * self.state * self.length
        return Scan(
            name=name, multiply_adds=float(products), bytes_moved=size, dtype=self.dtype, direction=direction
        )

    def passing(self, name: str, passes: int) -> Elementwise:
        """Return the recurrence between chunks, each pass reading or writing all states once."""
        return Elementwise(name=name, bytes_moved=passes * self.state_bytes)

    def steps(self, name: str) -> Elementwise:
        """Return the sums of step sizes inside chunks."""
        return Elementwise(name=name, bytes_moved=3 * STATE_BYTES * self.tokens * self.heads)

    @property
    def states(self) -> tuple[Kernel, ...]:
        """Step sizes, states at the end of chunks, their recurrence, and B C^T inside chunks."""
        return (
            self.steps("chunk_cumsum"),
            self.kernel("chunk_state", self.state, self.inner_bytes + self.shared_bytes + self.state_bytes),
            self.passing("state_passing", 2),
            self.between("chunk_bmm", 2 * self.shared_bytes + self.pair_bytes),
        )

    def forward(self) -> tuple[Kernel, ...]:
        """Return the kernels of the forward pass."""
        moved = 2 * self.inner_bytes + self.shared_bytes + self.state_bytes + self.pair_bytes
        return (*self.states, self.kernel("chunk_scan", self.length / 2 + self.state, moved))

    def backward(self) -> tuple[Kernel, ...]:
        """Return the kernels of the backward pass, which makes states again."""
        half, x, shared = self.length / 2, self.inner_bytes, self.shared_bytes
        states, pairs = self.state_bytes, self.pair_bytes
        return (
            *self.states,
            self.kernel("chunk_scan_dstates", self.state, x + shared + states, "backward"),
            self.passing("state_passing_grad", 3),
            self.kernel("chunk_scan_dx", half + self.state, 3 * x + shared + states + pairs, "backward"),
            self.kernel("chunk_state_db", self.state, x + 2 * shared + states, "backward"),
            self.kernel("chunk_scan_dc", self.state, x + 2 * shared + states, "backward"),
            self.kernel("chunk_scan_dcb", half, 2 * x + pairs, "backward"),
            self.between("chunk_bmm_db", 2 * shared + pairs, "backward"),
            self.between("chunk_bmm_dc", 2 * shared + pairs, "backward"),
            self.kernel("chunk_scan_da", half, 2 * x + pairs, "backward"),
            self.steps("chunk_cumsum_grad"),
        )


def mamba_steps(sizes: LocalSizes, kernels: KernelOptions, mamba: Mamba, hidden: int) -> list[Step]:
    """Return the steps from the residual stream to the block's output.

    Context-parallel ranks exchange tokens for channels before the convolution and back after the scan
    (Megatron-Core ``MambaContextParallel``).
    """
    tp = sizes.tp.size
    inner, convolved = mamba.inner // tp, mamba.convolved // tp
    projected = inner + convolved + mamba.num_heads // tp
    first = norm(sizes, kernels, "mamba_norm", hidden)
    return [
        *within("layernorm", [first]),
        *column_parallel(sizes, kernels, "mamba_in", projected, hidden),
        *_transposed(sizes, "mamba_batch_first", projected),
        *_mixer(sizes, mamba, inner=inner, projected=projected, convolved=convolved),
        *_transposed(sizes, "mamba_sequence_first", inner),
        *row_parallel(sizes, "mamba_out", hidden, inner),
    ]


def _transposed(sizes: LocalSizes, name: str, width: int) -> list[Step]:
    """Return the copy between Megatron's layout, sequence first, and that of the scan, batch first.

    One sequence has both at once (github:NVIDIA/Megatron-LM core_v0.16.0 megatron/core/ssm/mamba_mixer.py).
    """
    if sizes.sequences == 1:
        return []
    copy = Elementwise(name=name, bytes_moved=2 * sizes.element_bytes * sizes.tokens * width)
    return [Pointwise(forward=(copy,), backward=(copy,))]


def _mixer(sizes: LocalSizes, mamba: Mamba, *, inner: int, projected: int, convolved: int) -> list[Step]:
    """Return convolution, scan and gated norm; the projections' output and the scan's result are kept."""
    e, tokens = sizes.element_bytes, sizes.tokens
    conv = Elementwise(name="conv1d", bytes_moved=2 * e * tokens * convolved)
    conv_grad = Elementwise(name="conv1d_grad", bytes_moved=3 * e * tokens * convolved)
    gate = Elementwise(name="gated_norm", bytes_moved=3 * e * tokens * inner)
    gate_grad = Elementwise(name="gated_norm_grad", bytes_moved=5 * e * tokens * inner)
    scan = StateSpaceScan(
        chunks=math.ceil(tokens / mamba.chunk_size),
        length=mamba.chunk_size,
        heads=mamba.num_heads // sizes.tp.size,
        head_dim=mamba.head_dim,
        groups=max(1, mamba.n_groups // sizes.tp.size),
        state=mamba.state_size,
        dtype=sizes.dtype,
        element_bytes=e,
    )
    core = CoreAttention(
        forward=(conv, *scan.forward()),
        backward=(conv, *scan.backward(), conv_grad),
        saved_bytes=e * tokens * projected,
        input_bytes=e * tokens * projected,
        output_bytes=e * tokens * inner,
    )
    gated = Pointwise(forward=(gate,), backward=(gate_grad,), saved_bytes=e * tokens * inner)
    return [
        *_trade(sizes, "mamba_heads", tokens * projected * e),
        core,
        *_trade(sizes, "mamba_tokens", tokens * inner * e),
        gated,
    ]


def _trade(sizes: LocalSizes, name: str, size: float) -> list[Step]:
    if sizes.cp.size == 1:
        return []
    there, back = (
        Collective(kind="all_to_all", group=sizes.cp, bytes=size, name=label)
        for label in (name, f"{name}_grad")
    )
    return [Exchange(forward=there, backward=back, stream="cp")]
