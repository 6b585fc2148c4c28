"""The first narrow waist: what each rank does, in which order, waiting for whom. No seconds.

Ops are columns. An op starts when
    1. the op before it on the same rank and stream has ended (ops of a stream run in order of their number),
    2. every op it depends on has ended, and
    3. if it has a ``join``, all ops of that join are ready: they start together and end together.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from simulator.ragged import sorted_by
from simulator.schedules.op_kind import OpKind
from simulator.workload.work import NOTHING, Attention, Gemm, Launches, Leaf, Scan

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

__all__ = [
    "Block",
    "BlockSequence",
    "Bools",
    "Floats",
    "Ints",
    "OpKind",
    "Program",
    "ProgramBuilder",
    "Stream",
    "Work",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Stream(IntEnum):
    """An in-order queue of one rank; different streams run beside each other."""

    COMPUTE = 0
    TP = 1
    CP = 2
    EP = 3
    PP_FORWARD = 4
    PP_BACKWARD = 5
    DP_GATHER = 6
    DP_REDUCE = 7
    HOST_OUT = 8
    HOST_IN = 9
    HOST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Ops as columns, with what they wait for.

    Attributes:
        kind: [op] ``OpKind``.
        rank: [op] Program rank, counted from 0.
        stream: [op] ``Stream``.
        work: [op] Index into ``works``.
        microbatch: [op] Micro-batch, -1 where there is none.
        stage: [op] Global pipeline stage (``chunk * pp + rank`` when looped), -1 where there is none.
        join: [op] Number of the join that it belongs to, -1 where there is none.
        allocated_bytes: [op] Activation memory that it takes when it starts.
        freed_bytes: [op] Activation memory that it gives back when it ends.
        dependency_start: [op + 1] Ops ``dependency[dependency_start[i]:dependency_start[i + 1]]`` precede op
            ``i``.
        dependency: [edge] See ``dependency_start``.
        works: The different works.
        rank_names: What to call each program rank, for example ``pp 3``.
        replicas: Real ranks that each program rank stands for.
        derived: What engines found out about the program and need not find out again.
    """

    kind: Ints
    rank: Ints
    stream: Ints
    work: Ints
    microbatch: Ints
    stage: Ints
    join: Ints
    allocated_bytes: Floats
    freed_bytes: Floats
    dependency_start: Ints
    dependency: Ints
    works: tuple[Work, ...]
    rank_names: tuple[str, ...]
    replicas: int = 1
    derived: dict[str, object] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        columns: Mapping[str, NDArray[Any]],
        *,
        waiting: Ints,
        awaited: Ints,
        works: tuple[Work, ...],
        rank_names: tuple[str, ...],
        replicas: int = 1,
    ) -> Program:
        """Return a program of columns by name; op ``waiting[i]`` waits for op ``awaited[i]``."""
        count = len(columns["kind"])
        start = np.zeros(count + 1, dtype=np.int64)
        np.cumsum(np.bincount(waiting, minlength=count), out=start[1:])
        return cls(
            **columns,
            dependency_start=start,
            # Many come in ascending order, which a merging sort makes use of.
            dependency=awaited[np.argsort(waiting, kind="stable")],
            works=works,
            rank_names=rank_names,
            replicas=replicas,
        )

    @property
    def num_ops(self) -> int:
        """Number of ops."""
        return len(self.kind)

    @property
    def num_ranks(self) -> int:
        """Number of program ranks."""
        return len(self.rank_names)

    def filled(
        self,
        *,
        work: Ints,
        works: tuple[Work, ...],
        allocated_bytes: Floats,
        freed_bytes: Floats,
        replicas: int,
    ) -> Program:
        """Return the same ops with works and bytes; what engines found out of their order stays known."""
        program = replace(
            self,
            work=work,
            works=works,
            allocated_bytes=allocated_bytes,
            freed_bytes=freed_bytes,
            replicas=replicas,
        )
        object.__setattr__(program, "derived", self.derived)
        return program

    def content(self) -> Hashable:
        """Return what equal programs have in common."""
        parts = (getattr(self, part.name) for part in fields(self) if part.compare)
        return tuple(part.tobytes() if isinstance(part, np.ndarray) else part for part in parts)

    def dependencies(self, op: int) -> Ints:
        """Return the ops that op ``op`` waits for."""
        return self.dependency[self.dependency_start[op] : self.dependency_start[op + 1]]

    def in_queues(self) -> tuple[Ints, Ints]:
        """Return all ops, rank by rank and stream by stream; and where each rank's streams begin among them.

        Ops of stream ``s`` of rank ``r`` begin at entry ``r * len(Stream) + s`` of the second array.
        """
        found = self.derived.get("queues")
        if found is None:
            queue = self.rank * len(Stream) + self.stream
            order = sorted_by(queue)
            start = np.searchsorted(queue[order], np.arange(self.num_ranks * len(Stream) + 1))
            found = self.derived["queues"] = order, start
        return cast("tuple[Ints, Ints]", found)

    def queue(self, rank: int, stream: Stream) -> Ints:
        """Return the ops of one stream of a rank in order."""
        order, start = self.in_queues()
        place = rank * len(Stream) + stream
        return order[start[place] : start[place + 1]]

    def stream_ops(self, stream: Stream) -> Ints:
        """Return the ops of one stream of all ranks, rank by rank, in order."""
        return np.concatenate([self.queue(rank, stream) for rank in range(self.num_ranks)])

    def label(self, op: int) -> str:
        """Name an op as people do: ``F3.1`` is the forward pass of micro-batch 3 through stage 1."""
        kind = OpKind(self.kind[op])
        letter = {
            OpKind.FORWARD: "F",
            OpKind.BACKWARD: "B",
            OpKind.BACKWARD_INPUT: "I",
            OpKind.BACKWARD_WEIGHT: "W",
            OpKind.OUTPUT_FORWARD: "S",
            OpKind.OUTPUT_BACKWARD: "T",
        }
        if kind in letter:
            return f"{letter[kind]}{self.microbatch[op]}.{self.stage[op]}"
        work = self.works[self.work[op]]
        return getattr(work, "name", "") or kind.name.lower()


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Work that is a Program of its own: one layer's kernels and collectives on one rank.

    Attributes:
        name: What it is, for example ``dense layer, backward``.
        program: Its ops; its time is that program's makespan, or the host's launches if these take longer.
        captured: What CUDA graphs launch of it, less one launch for each graph.
        calls: Modules that the host calls for it, and CUDA graphs that it starts.
    """

    name: str
    program: Program
    captured: Launches = NOTHING
    calls: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class BlockSequence:
    """Blocks run one after the other: the layers of a pipeline stage, its embedding, its head and loss.

    Attributes:
        name: What it is, for example ``stage, forward``.
        blocks: Each block and how often it runs.
        share: Part of their time that is this work's, where blocks run two passes together.
    """

    name: str
    blocks: tuple[tuple[Block, int], ...]
    share: float = 1.0


Work = Leaf | BlockSequence


def floating_point_operations(program: Program) -> float:
    """Sum the FLOPs of a layer's matrix multiplications and attention kernels."""
    each = [work.flops if isinstance(work, Gemm | Attention | Scan) else 0.0 for work in program.works]
    return sum((each[int(work)] for work in program.work), 0.0)


_COLUMNS = tuple(column.name for column in fields(Program))[:9]
_BYTES = 2
"""The last columns are bytes, the others integers."""


@dataclass(slots=True)
class ProgramBuilder:
    """Collects ops one by one and turns them into a ``Program``.

    >>> from simulator.workload.work import Elementwise
    >>> builder = ProgramBuilder(rank_names=("gpu 0",))
    >>> work = Elementwise(name="norm", bytes_moved=1e6)
    >>> norm = builder.add(OpKind.KERNEL, 0, Stream.COMPUTE, work)
    >>> rope = builder.add(OpKind.KERNEL, 0, Stream.COMPUTE, work, after=[norm])
    >>> builder.build().dependencies(rope).tolist()
    [0]
    """

    rank_names: tuple[str, ...]
    replicas: int = 1
    # Flat arrays rather than objects per op, which the garbage collector would visit again and again.
    _columns: array[float] = field(default_factory=lambda: array("d"))
    _waits: array[int] = field(default_factory=lambda: array("q"))
    _needs: array[int] = field(default_factory=lambda: array("q"))
    _works: dict[Work, int] = field(default_factory=dict)
    _seen: dict[int, tuple[int, Work]] = field(default_factory=dict)

    def add(
        self,
        kind: OpKind,
        rank: int,
        stream: Stream,
        work: Work,
        *,
        after: Iterable[int] = (),
        microbatch: int = -1,
        stage: int = -1,
        join: int = -1,
        allocated_bytes: float = 0.0,
        freed_bytes: float = 0.0,
    ) -> int:
        """Append an op and return its number; see ``Program`` for the columns."""
        index = self._index(work)
        self._columns.extend(
            (kind, rank, stream, index, microbatch, stage, join, allocated_bytes, freed_bytes)
        )
        op = len(self._columns) // len(_COLUMNS) - 1
        self.wait(op, after)
        return op

    def wait(self, op: int, after: Iterable[int]) -> None:
        """Let an op that was already added wait for further ops."""
        for before in after:
            self._waits.append(op)
            self._needs.append(before)

    def _index(self, work: Work) -> int:
        """Return the number of a piece of work; an object that came before need not be hashed again."""
        known = self._seen.get(id(work))
        if known is None:
            known = self._seen[id(work)] = self._works.setdefault(work, len(self._works)), work
        return known[0]

    def build(self) -> Program:
        """Return the program."""
        table = np.array(self._columns).reshape(-1, len(_COLUMNS)).T
        whole = [*table[:-_BYTES].astype(np.int64), *table[-_BYTES:]]
        waits, needs = np.array((self._waits, self._needs), dtype=np.int64)
        return Program.of(
            dict(zip(_COLUMNS, whole, strict=True)),
            waiting=waits,
            awaited=needs,
            works=tuple(self._works),
            rank_names=self.rank_names,
            replicas=self.replicas,
        )
