"""What each rank does in a step and what it waits for, spelled out op by op: an oracle for ``build_step``.

Slow and plain on purpose. Every dependency carries the name of the law that asks for it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING

from simulator.workload.gradients import unit_parts
from simulator.workload.pipeline import pipeline_order
from simulator.workload.program import OpKind, Stream
from simulator.workload.schedules import Action, Overlapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from simulator.scenario import Scenario
    from simulator.workload.stages import Stage

MAKES_GRADIENTS = (OpKind.BACKWARD, OpKind.BACKWARD_WEIGHT)
READS_WEIGHTS = (OpKind.FORWARD, OpKind.BACKWARD, OpKind.BACKWARD_INPUT)
OUTPUT = (OpKind.OUTPUT_FORWARD, OpKind.OUTPUT_BACKWARD)


@dataclass(frozen=True)
class ExpectedOp:
    """An op as a reader of the scenario expects it.

    Attributes:
        work: What tells its work from others: the layers of a part of a pass, a collective's kind, name, group
            size and bytes, sender and receiver of a message, a kernel's name.
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

    law: str
    before: int
    after: int


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
class Oracle:
    """Ops of one step and what they wait for."""

    scenario: Scenario
    stages: Sequence[Stage]
    host_buckets: Sequence[int]
    ops: list[ExpectedOp] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    first: dict[Action, int] = field(default_factory=dict)
    last: dict[Action, int] = field(default_factory=dict)
    rank_of: dict[Action, int] = field(default_factory=dict)
    sent: dict[Action, int] = field(default_factory=dict)
    received: dict[Action, int] = field(default_factory=dict)
    reduced: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    last_compute: dict[int, int] = field(default_factory=dict)
    exchanged: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Lay out the step."""
        order = pipeline_order(self.scenario)
        self.entries = [list(entries) for entries in order]
        self.passes = [
            [action for entry in entries for action in _actions(entry) if action.kind not in OUTPUT]
            for entries in self.entries
        ]
        self.rank_of = {action: rank for rank, actions in enumerate(self.passes) for action in actions}
        self.held = [sorted({action.stage for action in actions}) for actions in self.passes]
        self.shards = [self._shards(stage) for stage in self.stages]
        for rank in range(len(order)):
            self._rank(rank)
        self._connect()
        self._end()

    # Who holds what, and what travels together

    def _shards(self, stage: Stage) -> list[Shard]:
        """Close a bucket as soon as it holds ``bucket_bytes`` of gradients; FSDP's units are single layers."""
        parallelism, training = self.scenario.parallelism, self.scenario.training
        limit = self.scenario.software.bucket_bytes if parallelism.sharding != "zero3" else 0.0
        width = 4.0 if training.grad_dtype == "fp32" else 2.0
        shards: list[Shard] = []
        units: list[int] = []
        dense = experts = 0.0
        parts = unit_parts(self.scenario, stage.outline)
        for number, part in enumerate(parts):
            units.append(number)
            dense, experts = dense + part.parameters.dense, experts + part.parameters.experts
            if (dense + experts) * width >= limit or number == len(parts) - 1:
                shards.append(self._shard(tuple(units), dense, experts, width))
                units, dense, experts = [], 0.0, 0.0
        return shards

    def _shard(self, units: tuple[int, ...], dense: float, experts: float, width: float) -> Shard:
        parallelism, software = self.scenario.parallelism, self.scenario.software
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
                kind = "broadcast" if software.broadcasts_weights else "all_gather"
                gathers.append((kind, "param_gather", share, size * 2.0))
        return Shard(units, *(tuple(one for one in many if one[2] > 1) for many in (gathers, reduces, sums)))

    # How passes are cut

    def _is_first_forward(self, rank: int, action: Action) -> bool:
        same = [one for one in self.passes[rank] if one[:2] == (OpKind.FORWARD, action.stage)]
        return same[0] == action

    def _sends_gradients(self, rank: int, action: Action) -> bool:
        """Gradients are complete after the stage's last pass that makes some, or after every micro-batch."""
        if action.kind not in MAKES_GRADIENTS:
            return False
        makes = [p for p in self.passes[rank] if p.stage == action.stage and p.kind in MAKES_GRADIENTS]
        return self.scenario.parallelism.reduce_every_microbatch or makes[-1] == action

    def parts(self, rank: int, action: Action) -> list[Part]:
        """Cut a pass where a collective has to wait for a part of it, or a part for a collective."""
        shards = list(enumerate(self.shards[action.stage]))
        everything = tuple(unit for _, shard in shards for unit in shard.units)
        overlap = self.scenario.training.overlap
        sends = self._sends_gradients(rank, action)
        reduces = sends and any(shard.reduces or shard.sums for _, shard in shards)
        if self.scenario.parallelism.sharding == "zero3":
            backwards = shards if action.kind is OpKind.FORWARD else shards[::-1]
            cut = [
                Part(
                    action,
                    shard.units,
                    number,
                    shard if shard.gathers and self._gathers_unit(rank, action, number) else None,
                    (shard,) if sends and (shard.reduces or shard.sums) else (),
                )
                for number, shard in backwards
            ]
            return cut if any(p.gathers or p.reduces for p in cut) else [Part(action, everything)]
        if action.kind is OpKind.FORWARD:
            gathers = any(shard.gathers for _, shard in shards)
            if overlap.param_gather and gathers and self._is_first_forward(rank, action):
                return [Part(action, shard.units, number) for number, shard in shards]
        elif reduces and overlap.grad_reduce:
            return [Part(action, shard.units, number, None, (shard,)) for number, shard in shards[::-1]]
        elif reduces and self.scenario.parallelism.reduce_every_microbatch:
            return [Part(action, everything, -1, None, tuple(shard for _, shard in shards[::-1]))]
        return [Part(action, everything)]

    def _gathers_unit(self, rank: int, action: Action, number: int) -> bool:
        """FSDP: weights that were freed are gathered before each pass that reads them.

        Forward passes find them freed, unless they stay over the whole step: without resharding they are freed
        by the pass that reduces gradients, of which there is one a step; pipelines leave them to the end anyway.
        Backward passes find them freed if the forward pass resharded; the outermost unit, which holds the
        embedding and the head, never does.
        """
        parallelism, stage = self.scenario.parallelism, self.stages[action.stage]
        if action.kind not in READS_WEIGHTS:
            return False
        reshards = parallelism.reshard_after_forward
        if action.kind is OpKind.FORWARD:
            once = not reshards and (parallelism.pp > 1 or not parallelism.reduce_every_microbatch)
            return not once or self._is_first_forward(rank, action)
        is_embedding = action.stage == 0 and number == 0
        is_head = action.stage == len(self.stages) - 1 and number == len(stage.works) - 1
        return reshards and not is_embedding and not is_head

    # One rank's passes

    def _rank(self, rank: int) -> None:
        zero3 = self.scenario.parallelism.sharding == "zero3"
        queue = _Sharded(self, rank) if zero3 else _Bucketed(self, rank)
        blocking = not self.scenario.training.overlap.p2p
        for entry in self.entries[rank]:
            actions = _actions(entry)
            if actions[0].kind in OUTPUT:
                self.last_compute[rank] = self._output(rank, actions[0])
                continue
            for action in actions if blocking else ():
                self._receive(rank, action)
            made: list[int] = []
            for group in zip_longest(*(self.parts(rank, action) for action in actions)):
                together = [part for part in group if part is not None]
                before = [wait for part in together for wait in queue.before(part)]
                ops = [self._part(rank, part) for part in together]
                for op in ops:
                    self._wait(op, before)
                for part in together:
                    queue.after(part, ops[-1])
                made += ops
            self.last_compute[rank] = made[-1]
            for action in actions:
                self.first[action], self.last[action] = made[0], made[-1]
                self._send(rank, action)
        queue.finish()

    def _part(self, rank: int, part: Part) -> int:
        return self.add(rank, Stream.COMPUTE, part.action.kind, part.units, action=part.action)

    def _producer(self, action: Action) -> Action | None:
        """Return the pass of a neighbouring stage whose result a pass needs."""
        kind, stage, microbatch = action
        if kind is OpKind.FORWARD:
            return Action(kind, stage - 1, microbatch) if stage else None
        if kind is OpKind.BACKWARD_WEIGHT or stage == len(self.stages) - 1:
            return None
        whole, half = (Action(one, stage + 1, microbatch) for one in (OpKind.BACKWARD, OpKind.BACKWARD_INPUT))
        return whole if whole in self.rank_of else half

    def _receive(self, rank: int, action: Action) -> None:
        producer = self._producer(action)
        if producer is None or self.rank_of[producer] == rank:
            return
        work = ("message", self.rank_of[producer], rank, True)
        self.received[producer] = self.add(rank, Stream.COMPUTE, OpKind.TRANSFER, work, action=producer)

    def _send(self, rank: int, action: Action) -> None:
        consumers = [one for one in self._consumers(action) if self.rank_of[one] != rank]
        if not consumers:
            return
        stream = Stream.PP_FORWARD if action.kind is OpKind.FORWARD else Stream.PP_BACKWARD
        stream = stream if self.scenario.training.overlap.p2p else Stream.COMPUTE
        work = ("message", rank, self.rank_of[consumers[0]], False)
        self.sent[action] = op = self.add(rank, stream, OpKind.TRANSFER, work, action=action)
        self._wait(op, [("a send follows its pass", self.last[action])])

    def _consumers(self, action: Action) -> list[Action]:
        kind, stage, microbatch = action
        step = 1 if kind is OpKind.FORWARD else -1
        later = (Action(one, stage + step, microbatch) for one in READS_WEIGHTS)
        return [one for one in later if one in self.rank_of and self._producer(one) == action]

    def _connect(self) -> None:
        """Let passes follow the passes, messages and exchanges whose results they read."""
        for action in self.rank_of:
            producer = self._producer(action)
            if producer is not None:
                law = "a pass follows its neighbour's"
                self._wait(self.first[action], [(law, self.last[producer])])
                if producer in self.sent:
                    self._wait(self.first[action], [("a pass follows its message", self.sent[producer])])
            kind, stage, microbatch = action
            for before in {
                OpKind.BACKWARD: (OpKind.FORWARD,),
                OpKind.BACKWARD_INPUT: (OpKind.FORWARD,),
                OpKind.BACKWARD_WEIGHT: (OpKind.BACKWARD_INPUT,),
            }.get(kind, ()):
                own = self.last[Action(before, stage, microbatch)]
                self._wait(self.first[action], [("a backward pass follows its forward pass", own)])
            is_last = stage == len(self.stages) - 1
            if is_last and self.scenario.parallelism.vocabulary != "none" and kind in READS_WEIGHTS[1:]:
                exchange = self.exchanged[self.rank_of[action], microbatch]
                self._wait(self.first[action], [("the output layer's gradient is exchanged", exchange)])
        for producer, op in self.received.items():
            self._wait(op, [("a receive follows its pass", self.last[producer])])

    def _output(self, rank: int, action: Action) -> int:
        """Run the rank's part of the output layer between its exchanges."""
        microbatch = action.microbatch
        method, pp = self.scenario.parallelism.vocabulary, self.scenario.parallelism.pp

        def exchange(kind: str, stream: Stream) -> int:
            work = (kind, f"output layer, {kind.replace('_', '-')}", pp, None)
            own = Action(OpKind.COLLECTIVE, -1, microbatch)
            join = ("output", stream, microbatch)
            return self.add(rank, stream, OpKind.COLLECTIVE, work, action=own, join=join)

        own = Action(action.kind, -1, microbatch)
        law = "the output layer follows its exchanges"
        if action.kind is OpKind.OUTPUT_FORWARD:
            arrived = exchange("broadcast", Stream.TP)
            last = Action(OpKind.FORWARD, len(self.stages) - 1, microbatch)
            if self.rank_of[last] == rank:
                self._wait(arrived, [("the output layer follows the last stage", self.last[last])])
            op = self.add(rank, Stream.COMPUTE, action.kind, ("output layer, S",), action=own)
            self._wait(op, [(law, arrived)])
            self.exchanged[rank, microbatch] = total = exchange("all_reduce", Stream.CP)
            self._wait(total, [(law, op)])
            return op
        op = self.add(rank, Stream.COMPUTE, action.kind, ("output layer, T",), action=own)
        self._wait(op, [(law, self.exchanged[rank, microbatch])])
        if method != "vocab-2":
            self.exchanged[rank, microbatch] = total = exchange("all_reduce", Stream.EP)
            self._wait(total, [(law, op)])
        return op

    # The end of the step

    def _end(self) -> None:
        scenario = self.scenario
        pp, gpus = scenario.parallelism.pp, scenario.parallelism.gpus
        ranks = range(pp)
        law = "the end follows all gradients of the rank"
        before = {
            rank: [(law, op) for op in [*self.reduced[rank], self.last_compute[rank]]] for rank in ranks
        }

        def collective(rank: int, work: tuple[object, ...], join: tuple[object, ...] = ()) -> None:
            op = self.add(rank, Stream.DP_REDUCE, OpKind.COLLECTIVE, work, join=join)
            self._wait(op, before[rank])
            before[rank] = [*before[rank], (f"what ends the step follows {work[1]}", op)]

        if scenario.training.precision == "fp8-delayed" and gpus > pp:
            for rank in ranks:
                for _ in range(2):
                    collective(rank, ("all_reduce", "amax history", gpus // pp, None))
        for stage in range(len(self.stages)):
            holders = [rank for rank in ranks if stage in self.held[rank]]
            for rank in holders if len(holders) == 2 else ():
                collective(rank, ("all_reduce", "stage copies", 2, None), ("copies", stage))
        ends = [next(r for r in ranks if stage in self.held[r]) for stage in (0, len(self.stages) - 1)]
        if scenario.model.tie_word_embeddings and ends[0] != ends[1]:
            for rank in ends:
                collective(rank, ("all_reduce", "tied embedding gradients", 2, None), ("tied",))
        if gpus > 1 and not scenario.training.post_validation:
            for rank in ranks:
                collective(rank, ("all_reduce", "gradient norm", gpus, 4.0), ("norm",))
        for rank in ranks:
            self._update(rank, before[rank])

    def _update(self, rank: int, before: list[tuple[str, int]]) -> None:
        training = self.scenario.training
        offload = training.offload
        share = 0.0 if offload.optimizer == "none" else offload.optimizer_fraction
        if share < 1:
            op = self.add(rank, Stream.COMPUTE, OpKind.OPTIMIZER, ("optimizer",))
            self._wait(op, before)
        arrived: list[tuple[str, int]] = []
        start = before
        transfer = OpKind.TRANSFER
        steps = {
            "stream": (
                (Stream.HOST_IN, transfer),
                (Stream.COMPUTE, OpKind.OPTIMIZER),
                (Stream.HOST_OUT, transfer),
            ),
            "cpu": ((Stream.HOST_OUT, transfer), (Stream.HOST, transfer), (Stream.HOST_IN, transfer)),
        }
        for _ in range(self.host_buckets[rank] if share else 0):
            follows = start
            for stream, kind in steps[offload.optimizer]:
                name = {Stream.COMPUTE: "optimizer", Stream.HOST: "host optimizer"}.get(stream, "host copy")
                op = self.add(rank, stream, kind, (name,))
                self._wait(op, follows)
                follows = [("state comes, is updated and goes", op)]
            arrived = [("the step ends when the host has answered", follows[0][1])]
            start = start if offload.optimizer_overlap else arrived
        layers = [self.stages[stage] for stage in self.held[rank]]
        if training.precision == "fp8-delayed" and any(s.layers or s.outline.predictions for s in layers):
            op = self.add(rank, Stream.COMPUTE, OpKind.OPTIMIZER, ("weight casts",))
            self._wait(op, arrived)
        op = self.add(rank, Stream.COMPUTE, OpKind.OVERHEAD, ("step overhead",))
        self._wait(op, arrived)

    # Ops

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

    def _wait(self, op: int, before: Iterable[tuple[str, int]]) -> None:
        self.waits += [Wait(law, other, op) for law, other in before]


class _Bucketed:
    """Whole weights: gathered at the beginning of the step, gradients reduced in buckets."""

    def __init__(self, oracle: Oracle, rank: int) -> None:
        self.oracle, self.rank = oracle, rank
        self.pending: list[tuple[str, int]] = []
        self.gathered: dict[tuple[int, int], list[int]] = {}
        for stage in oracle.held[rank]:
            for number, shard in enumerate(oracle.shards[stage]):
                own = Action(OpKind.FORWARD, stage, -1)
                self.gathered[stage, number] = [
                    oracle.add(rank, Stream.DP_GATHER, OpKind.COLLECTIVE, work, action=own)
                    for work in shard.gathers
                ]

    def before(self, part: Part) -> list[tuple[str, int]]:
        waits, self.pending = self.pending, []
        is_first = part.action == self.oracle.passes[self.rank][0]
        if self.oracle.scenario.training.overlap.param_gather:
            is_cut = part.action.kind is OpKind.FORWARD and part.number >= 0
            ops = self.gathered[part.action.stage, part.number] if is_cut else []
            return waits + [("a part follows the gather of its bucket", op) for op in ops]
        every = [op for ops in self.gathered.values() for op in ops] if is_first else []
        return waits + [("the first pass follows all gathers", op) for op in every]

    def after(self, part: Part, op: int) -> None:
        ops = [one for shard in part.reduces for one in self._reduce(part.action.stage, shard, op)]
        if not self.oracle.scenario.training.overlap.grad_reduce:
            self.pending += [("the next pass waits for reductions", one) for one in ops]

    def _reduce(self, stage: int, shard: Shard, after: int) -> list[int]:
        own = Action(OpKind.BACKWARD, stage, -1)
        made = []
        for work in (*shard.reduces, *shard.sums):
            op = self.oracle.add(self.rank, Stream.DP_REDUCE, OpKind.COLLECTIVE, work, action=own)
            self.oracle._wait(op, [("a reduction follows its gradients", after)])
            made.append(op)
        self.oracle.reduced[self.rank] += made
        return made

    def finish(self) -> None:
        parallelism = self.oracle.scenario.parallelism
        if parallelism.reduce_every_microbatch or self.oracle.scenario.training.overlap.grad_reduce:
            return
        for stage in self.oracle.held[self.rank][::-1]:
            for shard in self.oracle.shards[stage][::-1]:
                self._reduce(stage, shard, self.oracle.last_compute[self.rank])


class _Sharded:
    """FSDP: weights gathered and gradients reduced layer by layer."""

    def __init__(self, oracle: Oracle, rank: int) -> None:
        self.oracle, self.rank = oracle, rank
        self.parts = [part for action in oracle.passes[rank] for part in oracle.parts(rank, action)]
        overlap, parallelism = oracle.scenario.training.overlap, oracle.scenario.parallelism
        self.ahead = parallelism.prefetch if overlap.param_gather else 0
        software = oracle.scenario.software
        self.copies = ("unshard_copy",) * software.unshard_copies
        self.copies += ("gathered parts",) * software.gathers_tensor_by_tensor
        self.copies_back = ("gradient_copy",) * software.unshard_copies
        self.copies_back += ("gradient parts",) * software.gathers_tensor_by_tensor
        self.ran: list[int] = []
        self.gathered: list[list[int]] = []
        self.pending: list[tuple[str, int]] = []

    def before(self, part: Part) -> list[tuple[str, int]]:
        here = len(self.ran)
        while len(self.gathered) <= min(here + self.ahead, len(self.parts) - 1):
            self._gather()
        waits = self.pending + [("a part follows the gather of its layer", op) for op in self.gathered[here]]
        self.pending = []
        for name in self.copies if part.gathers else ():
            waits = [("a part follows the copies of its weights", self._copy(part, name, waits))]
        return waits

    def _gather(self) -> None:
        number = len(self.gathered)
        part = self.parts[number]
        own = part.action
        ops = [
            self.oracle.add(self.rank, Stream.DP_GATHER, OpKind.COLLECTIVE, work, action=own)
            for work in (part.gathers.gathers if part.gathers else ())
        ]
        freed = number - self.ahead - 1
        for op in ops if freed >= 0 else ():
            self.oracle._wait(op, [("a gather looks no further ahead than prefetch", self.ran[freed])])
        self.gathered.append(ops)

    def after(self, part: Part, op: int) -> None:
        self.ran.append(op)
        for shard in part.reduces:
            ready = [("a reduction follows its gradients", op)]
            for name in self.copies_back:
                ready = [("a reduction follows the copies of its gradients", self._copy(part, name, ready))]
            steps = [(Stream.DP_GATHER, work) for work in shard.reduces]
            steps += [(Stream.DP_REDUCE, work) for work in shard.sums]
            for stream, work in steps:
                one = self.oracle.add(self.rank, stream, OpKind.COLLECTIVE, work, action=part.action)
                self.oracle._wait(one, ready)
                self.oracle.reduced[self.rank].append(one)
                ready = [("sums over replicas follow the reduce-scatter", one)]
            if not self.oracle.scenario.training.overlap.grad_reduce:
                self.pending += [("the next pass waits for reductions", one) for _, one in ready]

    def _copy(self, part: Part, name: str, after: list[tuple[str, int]]) -> int:
        own = Action(OpKind.KERNEL, part.action.stage, -1)
        op = self.oracle.add(self.rank, Stream.COMPUTE, OpKind.KERNEL, (name,), action=own)
        self.oracle._wait(op, after)
        return op

    def finish(self) -> None:
        """All gradients were reduced by the passes that completed them."""


def _actions(entry: Action | Overlapped) -> tuple[Action, ...]:
    return tuple(entry) if isinstance(entry, Overlapped) else (entry,)
