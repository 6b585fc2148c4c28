"""The kinds of work that ops do: FLOPs and bytes, no seconds.

Every kind is a small frozen value, so that equal pieces of work are priced once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Pass = Literal["forward", "backward"]
CollectiveKind = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast"]
CollectiveKernel = Literal["nccl", "deepep", "hybridep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """``batch`` independent products D[m, n] = A[m, k] B[k, n].

    Attributes:
        name: What the layer calls it (``qkv``, ``mlp_up`` ...).
        m: Rows of the result.
        n: Columns of the result.
        k: Inner dimension.
        batch: Independent products run by one kernel (experts of a grouped GEMM).
        dtype: Number format of the operands.
        accumulates: Whether it adds to its result (weight gradients), so that it reads and writes that.
        accumulated_bytes: Bytes of a number of such a result: 4 in fp32, 2 in 16 bits.
        grouped: Whether the products differ in size (experts) and the library starts each of them by itself.
        pieces: Kernels of this shape that several streams run one after the other, so that one fills the
            multiprocessors that the last wave of the one before leaves idle (tensor-parallel overlap).
        spared: Multiprocessors that it leaves to the collective beside it.
        promotes: Whether operands have a scale for each block along k that the matrix units cannot apply, so
            that partial sums of 128 products are scaled and added up outside them.
    """

    name: str
    m: int
    n: int
    k: int
    dtype: str
    batch: int = 1
    accumulates: bool = False
    accumulated_bytes: float = 4.0
    grouped: bool = False
    pieces: int = 1
    spared: int = 0
    promotes: bool = False

    @property
    def flops(self) -> float:
        """Multiplications and additions."""
        return 2.0 * self.batch * self.m * self.n * self.k


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """One fused attention kernel (FlashAttention and its like).

    Attributes:
        sequences: Sequences of the micro-batch.
        heads: Query heads on this rank.
        kv_heads: Key and value heads on this rank.
        head_dim: Width of a query or key head.
        value_dim: Width of a value head.
        seq_q: Query positions on this rank.
        seq_kv: Key positions that they attend to.
        pairs: Query-key pairs per head and sequence that the mask leaves; ``seq_q * seq_kv`` without a mask.
        kernel: ``flash1``, ``flash2``, ``flash3`` or ``cudnn``.
        dtype: Number format.
        direction: Forward or backward (2.5 times the forward FLOPs).
    """

    sequences: int
    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    seq_q: int
    seq_kv: int
    pairs: float
    kernel: str
    dtype: str
    direction: Pass

    @property
    def name(self) -> str:
        """What the layer calls it."""
        return f"attention_{self.direction}"

    @property
    def flops(self) -> float:
        """FLOPs in Dao's convention: 2 (d_qk + d_v) per pair forward, 2.5 times that backward."""
        forward = 2.0 * self.sequences * self.heads * self.pairs * (self.head_dim + self.value_dim)
        return forward if self.direction == "forward" else 2.5 * forward


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise:
    """A memory-bound kernel: norms, activations, residuals, rotary embedding, soft-max, optimizer.

    Attributes:
        name: What the layer calls it.
        bytes_moved: Bytes read and written in HBM.
        kernels: Kernels that move them: one when fused.
        exact: Whether these are all bytes that the stack's kernels move, copies and casts included, counted
            in its source: then its ``elementwise_slowdown`` does not apply.
        loops: How many of these one call launches, one after the other in compiled code.
    """

    name: str
    bytes_moved: float
    kernels: int = 1
    exact: bool = False
    loops: int = 1

    @property
    def flops(self) -> float:
        """Not counted: the convention of every published number."""
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A kernel of a state-space scan: products inside chunks, their operands weighted by decays.

    Attributes:
        name: What the layer calls it.
        multiply_adds: Multiplications and additions of its products.
        bytes_moved: Bytes read and written in HBM.
        dtype: Number format of the products.
        direction: Forward, or backward with its sums over the tokens of a chunk.
    """

    name: str
    multiply_adds: float
    bytes_moved: float
    dtype: str
    direction: Pass

    @property
    def flops(self) -> float:
        """Multiplications and additions."""
        return self.multiply_adds


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The ranks that a collective joins: ``size`` ranks, ``stride`` apart, in global rank numbering.

    Attributes:
        axis: What they divide among them: ``tp``, ``cp``, ``ep``, ``dp``, ``pp`` or a product like ``dp_cp``.
        size: Number of ranks.
        stride: Distance between neighbours.
    """

    axis: str
    size: int
    stride: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """How the copies of one token spread over experts, for kernels that send a token once to each target.

    Attributes:
        experts: Routed experts.
        copies: Experts that a token visits.
        groups: Groups that the experts form.
        chosen_groups: Groups that a token visits at most.
    """

    experts: int
    copies: int
    groups: int = 1
    chosen_groups: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """A collective over a group.

    Attributes:
        kind: Which collective.
        group: Who takes part.
        bytes: Size in the convention of nccl-tests: the whole result of an all-gather, the whole input of a
            reduce-scatter, an all-reduce's buffer, what one rank sends in total in an all-to-all.
        name: What the layer calls it.
        kernel: Library whose kernel runs it.
        messages: Parts that it is cut into, each a collective of its own after the one before.
        routing: Of an all-to-all that carries tokens to experts or back, where the copies in ``bytes`` go.
    """

    kind: CollectiveKind
    group: Group
    bytes: float
    name: str = ""
    kernel: CollectiveKernel = "nccl"
    messages: int = 1
    routing: Routing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A point-to-point message between two ranks of the pipeline.

    Attributes:
        bytes: Size of the message that one rank sends.
        stride: Distance between sender and receiver in global rank numbering.
        source: Program rank that sends.
        target: Program rank that receives.
        span: Distance between the first and the last rank of the ring that it goes round; 0 without a ring.
        by_copy_engine: Whether a copy engine moves it, so that it takes no multiprocessors.
        receives: Whether this is the receiver's part in a message that the sender moves.
    """

    bytes: float
    stride: int
    source: int
    target: int
    span: int = 0
    by_copy_engine: bool = False
    receives: bool = False

    @property
    def name(self) -> str:
        """What traces call it."""
        return "p2p"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCopy:
    """A copy between the GPU's and the host's memory over PCIe or a chip-to-chip link.

    Attributes:
        bytes: Its size.
        name: What traces call it.
    """

    bytes: float
    name: str = "host copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUpdate:
    """A part of the optimizer step that the host runs, limited by its memory.

    Attributes:
        bytes: Bytes read and written in the host's memory.
        name: What traces call it.
    """

    bytes: float
    name: str = "host optimizer"


@dataclass(frozen=True, slots=True)
class StepOverhead:
    """The fixed part of a step that belongs to the software stack."""

    name: str = "step overhead"


@dataclass(frozen=True, slots=True)
class Launches:
    """Kernels that the host launches.

    Attributes:
        first: Launches by a framework's call each.
        further: Launches that follow another one in the same call, from a loop in compiled code.
    """

    first: int = 0
    further: int = 0

    def __add__(self, other: Launches) -> Launches:
        """Return the launches of both."""
        return Launches(self.first + other.first, self.further + other.further)

    def __sub__(self, other: Launches) -> Launches:
        """Return what is left without others; never fewer than none."""
        return Launches(max(0, self.first - other.first), max(0, self.further - other.further))


NOTHING = Launches()


Leaf = Gemm | Attention | Scan | Elementwise | Collective | Transfer | HostCopy | HostUpdate | StepOverhead
"""Work that a kernel, a collective or the host does in one go."""
