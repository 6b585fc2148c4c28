"""What each rank does in a step and what it waits for, spelled out op by op: an oracle for ``build_step``.

Slow and plain on purpose. Every dependency carries the name of the law that asks for it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING

from simulator.schedules import Action
from simulator.workload.pipeline import Pipeline
from simulator.workload.program import OpKind, Stream

from .expected_end import append_end
from .expected_ops import Law, Ledger, Part, shards_of
from .expected_sharding import ShardedWeights, WholeWeights, actions_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.workload.step.stages import Stage

MAKES_GRADIENTS = (OpKind.BACKWARD, OpKind.BACKWARD_WEIGHT)
READS_WEIGHTS = (OpKind.FORWARD, OpKind.BACKWARD, OpKind.BACKWARD_INPUT)
OUTPUT = (OpKind.OUTPUT_FORWARD, OpKind.OUTPUT_BACKWARD)


@dataclass(kw_only=True)
class Oracle(Ledger):
    """Ops of one step and what they wait for."""

    scenario: Scenario
    stages: Sequence[Stage]
    host_buckets: Sequence[int]
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
        order = Pipeline.of(self.scenario).order()
        self.entries = [list(entries) for entries in order]
        self.passes = [
            [action for entry in entries for action in actions_of(entry) if action.kind not in OUTPUT]
            for entries in self.entries
        ]
        self.rank_of = {action: rank for rank, actions in enumerate(self.passes) for action in actions}
        self.held = [sorted({action.stage for action in actions}) for actions in self.passes]
        self.shards = [shards_of(self.scenario, stage) for stage in self.stages]
        for rank in range(len(order)):
            self._rank(rank)
        self._connect()
        append_end(self)

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

        Forward passes find them freed, unless they stay over the whole step. Without resharding they are
        freed by a pass that reduces gradients: there is one such pass a step, or pipelines put it off.
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
        queue = ShardedWeights(self, rank) if zero3 else WholeWeights(self, rank)
        blocking = not self.scenario.training.overlap.p2p
        for entry in self.entries[rank]:
            actions = actions_of(entry)
            if actions[0].kind in OUTPUT:
                self.last_compute[rank] = self._output(rank, actions[0])
                continue
            for action in actions if blocking else ():
                self._receive(rank, action)
            made: list[int] = []
            for group in zip_longest(*(self.parts(rank, action) for action in actions)):
                together = [part for part in group if part is not None]
                before = queue.before(together)
                ops = [self._part(rank, part) for part in together]
                for op in ops:
                    self.wait(op, before)
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
        self.wait(op, [(Law.MESSAGES, self.last[action])])

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
                law = Law.NEIGHBOURS
                self.wait(self.first[action], [(law, self.last[producer])])
                if producer in self.sent:
                    self.wait(self.first[action], [(Law.MESSAGES, self.sent[producer])])
            kind, stage, microbatch = action
            for before in {
                OpKind.BACKWARD: (OpKind.FORWARD,),
                OpKind.BACKWARD_INPUT: (OpKind.FORWARD,),
                OpKind.BACKWARD_WEIGHT: (OpKind.BACKWARD_INPUT,),
            }.get(kind, ()):
                own = self.last[Action(before, stage, microbatch)]
                self.wait(self.first[action], [(Law.BACKWARD, own)])
            is_last = stage == len(self.stages) - 1
            if is_last and self.scenario.parallelism.vocabulary != "none" and kind in READS_WEIGHTS[1:]:
                exchange = self.exchanged[self.rank_of[action], microbatch]
                self.wait(self.first[action], [(Law.OUTPUT_LAYER, exchange)])
        for producer, op in self.received.items():
            self.wait(op, [(Law.MESSAGES, self.last[producer])])

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
        law = Law.OUTPUT_LAYER
        if action.kind is OpKind.OUTPUT_FORWARD:
            arrived = exchange("broadcast", Stream.TP)
            last = Action(OpKind.FORWARD, len(self.stages) - 1, microbatch)
            if self.rank_of[last] == rank:
                self.wait(arrived, [(Law.OUTPUT_LAYER, self.last[last])])
            op = self.add(rank, Stream.COMPUTE, action.kind, ("output layer, S",), action=own)
            self.wait(op, [(law, arrived)])
            self.exchanged[rank, microbatch] = total = exchange("all_reduce", Stream.CP)
            self.wait(total, [(law, op)])
            return op
        op = self.add(rank, Stream.COMPUTE, action.kind, ("output layer, T",), action=own)
        self.wait(op, [(law, self.exchanged[rank, microbatch])])
        if method != "vocab-2":
            self.exchanged[rank, microbatch] = total = exchange("all_reduce", Stream.EP)
            self.wait(total, [(law, op)])
        return op
