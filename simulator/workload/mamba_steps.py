"""A Mamba-2 block: projection, short convolution, the state-space scan in chunks, gated norm, projection.

The scan runs as matrix products inside chunks and a recurrence between them (Dao and Gu, arXiv:2405.21060,
section 6); its kernels are those of github:state-spaces/mamba ``mamba_chunk_scan_combined``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.workload.layer_steps import CoreAttention, Exchange, Kernel, Pointwise, Step, within
from simulator.workload.linear import column_parallel, row_parallel
from simulator.workload.pointwise import norm
from simulator.workload.work import Collective, Elementwise, Gemm

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.scenario.model import Mamba
    from simulator.workload.shapes import Shapes

STATE_BYTES = 4.0
"""States between chunks are kept in fp32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scan:
    """Sizes of one rank's share of a scan.

    Attributes:
        chunks: Chunks of all sequences.
        length: Tokens of one chunk.
        heads: Heads.
        head_dim: Width of one head.
        groups: Groups of heads that share input and output projections.
        state: State size.
        dtype: Number format.
    """

    chunks: int
    length: int
    heads: int
    head_dim: int
    groups: int
    state: int
    dtype: str

    def per_head(self, name: str, m: int, n: int, k: int) -> Gemm:
        """Return a product for every chunk and head."""
        return Gemm(name=name, m=m, n=n, k=k, batch=self.chunks * self.heads, dtype=self.dtype)

    def per_group(self, name: str, m: int, n: int, k: int) -> Gemm:
        """Return a product for every chunk and group."""
        return Gemm(name=name, m=m, n=n, k=k, batch=self.chunks * self.groups, dtype=self.dtype)

    def passing(self, name: str, passes: int) -> Elementwise:
        """Return the recurrence between chunks, each pass reading or writing all states once."""
        states = self.chunks * self.heads * self.head_dim * self.state
        return Elementwise(name=name, bytes_moved=passes * STATE_BYTES * states)

    def steps(self, name: str) -> Elementwise:
        """Return the sums of step sizes inside chunks."""
        return Elementwise(name=name, bytes_moved=3 * STATE_BYTES * self.chunks * self.length * self.heads)

    @property
    def states(self) -> tuple[Kernel, ...]:
        """Step sizes, states at the end of chunks, their recurrence, and B C^T inside chunks."""
        return (
            self.steps("chunk_cumsum"),
            self.per_head("chunk_state", self.head_dim, self.state, self.length),
            self.passing("state_passing", 2),
            self.per_group("chunk_bmm", self.length, self.length, self.state),
        )

    def forward(self) -> tuple[Kernel, ...]:
        """Return the kernels of the forward pass."""
        scan = self.per_head("chunk_scan", self.length, self.head_dim, self.length + self.state)
        return (*self.states, scan)

    def backward(self) -> tuple[Kernel, ...]:
        """Return the kernels of the backward pass, which makes states again."""
        q, p, n = self.length, self.head_dim, self.state
        return (
            *self.states,
            self.per_head("chunk_scan_dstates", p, n, q),
            self.passing("state_passing_grad", 3),
            self.per_head("chunk_scan_dx", q, p, q + n),
            self.per_head("chunk_state_db", q, n, p),
            self.per_head("chunk_scan_dc", q, n, p),
            self.per_head("chunk_scan_dcb", q, q, p),
            self.per_group("chunk_bmm_db", q, n, q),
            self.per_group("chunk_bmm_dc", q, n, q),
            self.per_head("chunk_scan_da", q, q, p),
            self.steps("chunk_cumsum_grad"),
        )


def mamba_steps(scenario: Scenario, shapes: Shapes, mamba: Mamba) -> list[Step]:
    """Return the steps from the residual stream to the block's output.

    Context-parallel ranks exchange tokens for channels before the convolution and back after the scan
    (Megatron-Core ``MambaContextParallel``).
    """
    hidden, tp = scenario.model.hidden_size, shapes.tp.size
    inner, convolved = mamba.inner // tp, mamba.convolved // tp
    projected = inner + convolved + mamba.num_heads // tp
    first = norm(scenario, shapes, "mamba_norm", hidden)
    return [
        *within("layernorm", [first]),
        *column_parallel(scenario, shapes, "mamba_in", projected, hidden),
        *_mixer(shapes, mamba, inner=inner, projected=projected, convolved=convolved),
        *row_parallel(scenario, shapes, "mamba_out", hidden, inner),
    ]


def _mixer(shapes: Shapes, mamba: Mamba, *, inner: int, projected: int, convolved: int) -> list[Step]:
    """Return convolution, scan and gated norm; the projections' output and the scan's result are kept."""
    e, tokens = shapes.element_bytes, shapes.tokens
    conv = Elementwise(name="conv1d", bytes_moved=2 * e * tokens * convolved)
    conv_grad = Elementwise(name="conv1d_grad", bytes_moved=3 * e * tokens * convolved)
    gate = Elementwise(name="gated_norm", bytes_moved=3 * e * tokens * inner)
    gate_grad = Elementwise(name="gated_norm_grad", bytes_moved=5 * e * tokens * inner)
    scan = _Scan(
        chunks=math.ceil(tokens / mamba.chunk_size),
        length=mamba.chunk_size,
        heads=mamba.num_heads // shapes.tp.size,
        head_dim=mamba.head_dim,
        groups=max(1, mamba.n_groups // shapes.tp.size),
        state=mamba.state_size,
        dtype=shapes.dtype,
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
        *_trade(shapes, "mamba_heads", tokens * projected * e),
        core,
        *_trade(shapes, "mamba_tokens", tokens * inner * e),
        gated,
    ]


def _trade(shapes: Shapes, name: str, size: float) -> list[Step]:
    if shapes.cp.size == 1:
        return []
    there, back = (
        Collective(kind="all_to_all", group=shapes.cp, bytes=size, name=label)
        for label in (name, f"{name}_grad")
    )
    return [Exchange(forward=there, backward=back, stream="cp")]
