"""What an oracle of a training step writes down: ops, what they wait for, and the law that says so."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from simulator.workload.parameters.buckets import unit_spans
from simulator.workload.parameters.counts import LocalParameters

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.scenario import Scenario
    from simulator.schedules import Action
    from simulator.workload.program import OpKind, Stream
    from simulator.workload.step.stages import Stage


class Law(Enum):
    """Why an op waits for another."""

    NEIGHBOURS = "a pass follows the pass of the neighbouring stage whose result it reads"
    BACKWARD = "a backward pass follows its forward pass, a weight gradient its input gradient"
    MESSAGES = "a message follows the pass that made it; the pass that reads it follows both"
    WEIGHTS = "a part of a pass follows the gather of its weights"
    PREFETCH = "a gather looks no further ahead than prefetch"
    GRADIENTS = "a reduction follows the last pass that makes its gradients, sums over replicas follow it"
    BLOCKING = "the next pass waits for reductions that are not overlapped"
    OUTPUT_LAYER = "passes S and T and the last stage's backward pass follow their exchanges"
    END = "norm and update follow all gradients"
    HOST = "offloaded state comes, is updated and goes before the step ends"


Reason = tuple[Law, int]
"""An op that must end first, and why."""


@dataclass(frozen=True)
class ExpectedOp:
    """An op as a reader of the scenario expects it.

    Attributes:
        work: What tells its work from others: the layers of a part of a pass, a collective's kind, name,
            group size and bytes, sender and receiver of a message, a kernel's name.
        join: What the ops that start and end together have in common.
    """

    rank: int
    stream: Stream
    kind: OpKind
    stage: int
    microbatch: int
    work: tuple[object, ...]
    join: tuple[object, ...]


@dataclass(frozen=True)
class Wait:
    """Op ``before`` ends before op ``after`` starts, because a law says so."""

    law: Law
    before: int
    after: int


DENSE_TENSORS = 7
"""Of a layer of ``factories.MODEL``: queries with keys and values, output, gate, up, down, two norms."""


@dataclass(frozen=True)
class Shard:
    """Layers of a stage whose weights or gradients travel together."""

    units: tuple[int, ...]
    gathers: tuple[tuple[object, ...], ...]
    reduces: tuple[tuple[object, ...], ...]
    sums: tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class Part:
    """A part of a pass that runs as one op: its layers, and the shard that it gathers or sums up."""

    action: Action
    units: tuple[int, ...]
    number: int = -1
    gathers: Shard | None = None
    reduces: tuple[Shard, ...] = ()


@dataclass
class Ledger:
    """Ops and what they wait for."""

    ops: list[ExpectedOp] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)

    def add(
        self,
        rank: int,
        stream: Stream,
        kind: OpKind,
        work: tuple[object, ...],
        *,
        action: Action | None = None,
        join: tuple[object, ...] = (),
    ) -> int:
        """Append an op; its stage and micro-batch are those of an action."""
        stage, microbatch = (-1, -1) if action is None else action[1:]
        self.ops.append(ExpectedOp(rank, stream, kind, stage, microbatch, work, join))
        return len(self.ops) - 1

    def wait(self, op: int, before: Iterable[Reason]) -> None:
        self.waits += [Wait(law, other, op) for law, other in before]


def shards_of(scenario: Scenario, stage: Stage) -> list[Shard]:
    """Close a bucket as soon as it holds ``bucket_bytes`` of gradients; FSDP's units are single layers."""
    parallelism, training = scenario.parallelism, scenario.training
    limit = scenario.software.bucket_bytes if parallelism.sharding != "zero3" else 0.0
    width = 4.0 if training.grad_dtype == "fp32" else 2.0
    shards: list[Shard] = []
    units: list[int] = []
    dense = experts = 0.0
    parts = unit_spans(LocalParameters.of(scenario.model, scenario.parallelism), stage.outline)
    for number, part in enumerate(parts):
        units.append(number)
        dense, experts = dense + part.parameters.dense, experts + part.parameters.experts
        if (dense + experts) * width >= limit or number == len(parts) - 1:
            shards.append(_shard(scenario, tuple(units), dense, experts, width))
            units, dense, experts = [], 0.0, 0.0
    return shards


def _shard(scenario: Scenario, units: tuple[int, ...], dense: float, experts: float, width: float) -> Shard:
    parallelism, software = scenario.parallelism, scenario.software
    copies = parallelism.cp * parallelism.dp
    gathers, reduces, sums = [], [], []
    for size, whole in ((dense, copies), (experts, copies // parallelism.ep)):
        share = whole
        if parallelism.shard_size is not None:
            share = math.gcd(whole, max(1, whole * parallelism.shard_size // parallelism.dp))
        if not size:
            continue
        is_whole = parallelism.sharding == "none"
        if is_whole or (parallelism.sharding == "zero1" and software.sums_whole_gradients):
            reduces.append(("all_reduce", "grad_reduce", whole, size * width))
        else:
            reduces.append(("reduce_scatter", "grad_reduce", share, size * width))
            sums.append(("all_reduce", "grad_replica_reduce", whole // share, size * width / share))
        if not is_whole:
            # Owners of whole tensors take turns: no more of them than ranks, or than tensors.
            turns = min(share, DENSE_TENSORS * len(units)) if software.broadcasts_weights else 1
            kind = "broadcast" if software.broadcasts_weights else "all_gather"
            gathers.append((f"{kind} x {turns}" if turns > 1 else kind, "param_gather", share, size * 2.0))
    return Shard(units, *(tuple(one for one in many if one[2] > 1) for many in (gathers, reduces, sums)))
