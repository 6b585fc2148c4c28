"""What a rank gathers and reduces beside its passes, as an oracle of the step expects it."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from simulator.schedules import Action, Overlapped
from simulator.workload.program import OpKind, Stream

from .expected_ops import Law

if TYPE_CHECKING:
    from .expected_ops import Part, Reason, Shard
    from .step_oracle import Oracle


READS_OR_MAKES = (OpKind.FORWARD, OpKind.BACKWARD, OpKind.BACKWARD_INPUT, OpKind.BACKWARD_WEIGHT)


def actions_of(entry: Action | Overlapped) -> tuple[Action, ...]:
    return tuple(entry) if isinstance(entry, Overlapped) else (entry,)


class WholeWeights:
    """Whole weights: gathered at the beginning of the step, gradients reduced in buckets."""

    def __init__(self, oracle: Oracle, rank: int) -> None:
        self.oracle, self.rank = oracle, rank
        self.pending: list[Reason] = []
        self.gathered: dict[tuple[int, int], list[int]] = {}
        for stage in oracle.held[rank]:
            for number, shard in enumerate(oracle.shards[stage]):
                own = Action(OpKind.FORWARD, stage, -1)
                self.gathered[stage, number] = [
                    oracle.add(rank, Stream.DP_GATHER, OpKind.COLLECTIVE, work, action=own)
                    for work in shard.gathers
                ]

    def before(self, together: list[Part]) -> list[Reason]:
        return [wait for part in together for wait in self._before(part)]

    def _before(self, part: Part) -> list[Reason]:
        waits, self.pending = self.pending, []
        is_first = part.action == self.oracle.passes[self.rank][0]
        if self.oracle.scenario.training.overlap.param_gather:
            is_cut = part.action.kind is OpKind.FORWARD and part.number >= 0
            ops = self.gathered[part.action.stage, part.number] if is_cut else []
            return waits + [(Law.WEIGHTS, op) for op in ops]
        every = [op for ops in self.gathered.values() for op in ops] if is_first else []
        return waits + [(Law.WEIGHTS, op) for op in every]

    def after(self, part: Part, op: int) -> None:
        ops = [one for shard in part.reduces for one in self._reduce(part.action.stage, shard, op)]
        if not self.oracle.scenario.training.overlap.grad_reduce:
            self.pending += [(Law.BLOCKING, one) for one in ops]

    def _reduce(self, stage: int, shard: Shard, after: int) -> list[int]:
        own = Action(OpKind.BACKWARD, stage, -1)
        made = []
        for work in (*shard.reduces, *shard.sums):
            op = self.oracle.add(self.rank, Stream.DP_REDUCE, OpKind.COLLECTIVE, work, action=own)
            self.oracle.wait(op, [(Law.GRADIENTS, after)])
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


class ShardedWeights:
    """FSDP: weights gathered and gradients reduced layer by layer."""

    def __init__(self, oracle: Oracle, rank: int) -> None:
        self.oracle, self.rank = oracle, rank
        self.parts: list[Part] = []
        self.opens: list[int] = []  # first of the parts that each runs together with
        for actions in map(actions_of, oracle.entries[rank]):
            if actions[0].kind not in READS_OR_MAKES:
                continue
            for group in zip_longest(*(oracle.parts(rank, action) for action in actions)):
                together = [part for part in group if part is not None]
                self.opens += [len(self.parts)] * len(together)
                self.parts += together
        overlap, parallelism = oracle.scenario.training.overlap, oracle.scenario.parallelism
        self.ahead = parallelism.prefetch if overlap.param_gather else 0
        software = oracle.scenario.software
        self.copies = ("unshard_copy",) * software.unshard_copies
        self.copies += ("gathered parts",) * software.gathers_tensor_by_tensor
        self.copies_back = ("gradient_copy",) * software.unshard_copies
        self.copies_back += ("gradient parts",) * software.gathers_tensor_by_tensor
        self.ran: list[int] = []
        self.gathered: list[list[int]] = []
        self.pending: list[Reason] = []

    def before(self, together: list[Part]) -> list[Reason]:
        here = len(self.ran)
        while len(self.gathered) < len(self.parts) and self.opens[len(self.gathered)] - self.ahead <= here:
            self._gather()
        return [wait for place, part in enumerate(together, here) for wait in self._before(place, part)]

    def _before(self, place: int, part: Part) -> list[Reason]:
        waits = self.pending + [(Law.WEIGHTS, op) for op in self.gathered[place]]
        self.pending = []
        for name in self.copies if part.gathers else ():
            waits = [(Law.WEIGHTS, self._copy(part, name, waits))]
        return waits

    def _gather(self) -> None:
        number = len(self.gathered)
        part = self.parts[number]
        own = part.action
        ops = [
            self.oracle.add(self.rank, Stream.DP_GATHER, OpKind.COLLECTIVE, work, action=own)
            for work in (part.gathers.gathers if part.gathers else ())
        ]
        freed = self.opens[number] - self.ahead - 1
        for op in ops if freed >= 0 else ():
            self.oracle.wait(op, [(Law.PREFETCH, self.ran[freed])])
        self.gathered.append(ops)

    def after(self, part: Part, op: int) -> None:
        self.ran.append(op)
        for shard in part.reduces:
            ready = [(Law.GRADIENTS, op)]
            for name in self.copies_back:
                ready = [(Law.GRADIENTS, self._copy(part, name, ready))]
            steps = [(Stream.DP_GATHER, work) for work in shard.reduces]
            steps += [(Stream.DP_REDUCE, work) for work in shard.sums]
            for stream, work in steps:
                one = self.oracle.add(self.rank, stream, OpKind.COLLECTIVE, work, action=part.action)
                self.oracle.wait(one, ready)
                self.oracle.reduced[self.rank].append(one)
                ready = [(Law.GRADIENTS, one)]
            if not self.oracle.scenario.training.overlap.grad_reduce:
                self.pending += [(Law.BLOCKING, one) for _, one in ready]

    def _copy(self, part: Part, name: str, after: list[Reason]) -> int:
        own = Action(OpKind.KERNEL, part.action.stage, -1)
        op = self.oracle.add(self.rank, Stream.COMPUTE, OpKind.KERNEL, (name,), action=own)
        self.oracle.wait(op, after)
        return op

    def finish(self) -> None:
        """All gradients were reduced by the passes that completed them."""
