"""Any schedule with the output layer divided among all ranks (Yeung et al., arXiv:2411.05288).

Every rank runs two more passes per micro-batch: S, its part of the logits, once the last stage's result has
reached it, and T, its part of the gradients. Between the last stage's forward and backward pass lie the
exchanges of all ranks, so backward passes follow later by as many micro-batches, and each rank holds so
many more of them.

``vocab-1``: T makes the input gradient, which the last stage waits for: two exchanges, two micro-batches
more.
``vocab-2``: S makes it already, rescaled after one exchange: one micro-batch more, and T may wait.
``interlaced``: all ranks stop for S and T at once, as in tensor parallelism (nnScaler, OSDI 2024), between
a forward and a backward pass of each. A micro-batch goes forward through two ranks between two stops and
back through one.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from simulator.schedules.action import Action, Overlapped, passes
from simulator.schedules.chains import needed, split_backward_passes
from simulator.schedules.columns import Passes
from simulator.schedules.op_kind import OpKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from simulator.schedules.action import Order
    from simulator.schedules.schedule import Request, Schedule, StageTimes

Method = Literal["vocab-1", "vocab-2", "interlaced"]
S, T = OpKind.OUTPUT_FORWARD, OpKind.OUTPUT_BACKWARD
_NEVER = math.inf
_NOTHING = Action(S, -1, -1)


def microbatches_more(method: Method, pp: int) -> int:
    """Return how many micro-batches more than without S and T a rank holds at most."""
    return {"vocab-1": 2, "vocab-2": 1, "interlaced": pp // 2}[method]


def with_vocabulary(schedule: Schedule, request: Request, method: Method) -> Order:
    """Return a schedule's order with passes S and T; their stage is the number of the rank that runs them."""
    if method == "interlaced":
        return tuple(tuple(_interlaced(request, rank)) for rank in range(request.pp))
    more = microbatches_more(method, request.pp)
    longer = schedule.order(replace(request, num_microbatches=request.num_microbatches + more))
    put_off = _put_off(longer, request.num_microbatches, more)
    return _Inserter.of(put_off, request, method).run()


def _interlaced(request: Request, rank: int) -> Iterator[Action]:
    """Yield one rank's passes, stop by stop."""
    behind = request.pp - 1 - rank
    microbatches = range(request.num_microbatches)
    for stop in range(-(behind // 2), request.num_microbatches + behind + 1):
        forward = Action(OpKind.FORWARD, rank, stop + behind // 2)
        backward = Action(OpKind.BACKWARD, rank, stop - 1 - behind)
        pair = (forward, backward) if behind % 2 else (backward, forward)
        yield from (action for action in pair if action.microbatch in microbatches)
        if stop in microbatches:
            yield Action(S, rank, stop)
            yield Action(T, rank, stop)


def _put_off(order: Order, num_microbatches: int, more: int) -> list[list[Action]]:
    """Let the backward passes of a schedule for more micro-batches stand for earlier ones."""
    ranks: list[list[Action]] = []
    for entries in order:
        ranks.append([])
        for action in passes(entries):
            number = action.microbatch - (0 if action.kind is OpKind.FORWARD else more)
            if 0 <= number < num_microbatches:
                ranks[-1].append(action._replace(microbatch=number))
    return ranks


@dataclass(slots=True)
class _Line:
    """One rank as far as it is scheduled.

    Attributes:
        base: Its passes without those of the output layer.
        clock: When its last pass ends.
        done: All its passes up to now.
        forwards: Micro-batches of S that are still to come.
        backwards: Micro-batches of T whose S has run.
    """

    base: deque[Action]
    clock: float = 0.0
    done: list[Action] = field(default_factory=list)
    forwards: deque[int] = field(default_factory=deque)
    backwards: deque[int] = field(default_factory=deque)


@dataclass(slots=True)
class _Inserter:
    """Runs a schedule by its times; a rank takes the pass that can start first, S and T before others."""

    lines: list[_Line]
    times: StageTimes
    method: Method
    stages: int
    owners: Mapping[Action, int]
    splits: Mapping[tuple[int, int], bool]
    ends: dict[Action, float] = field(default_factory=dict)
    ran: dict[tuple[OpKind, int], tuple[int, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, ranks: list[list[Action]], request: Request, method: Method) -> _Inserter:
        order = tuple(tuple(actions) for actions in ranks)
        microbatches = range(request.num_microbatches)
        return cls(
            lines=[_Line(deque(actions), forwards=deque(microbatches)) for actions in ranks],
            times=request.stage_times(),
            method=method,
            stages=request.stages,
            owners={action: rank for rank, actions in enumerate(ranks) for action in actions},
            splits=split_backward_passes(order),
        )

    def run(self) -> Order:
        """Schedule everything; a rank's next pass is looked for anew only where something has changed."""
        holders: dict[int, set[int]] = {}
        for action, rank in self.owners.items():
            holders.setdefault(action.stage, set()).add(rank)
        ranks = range(len(self.lines))
        best = [self._first(rank) for rank in ranks]
        while True:
            start, _, rank, action = min(best)
            if start == _NEVER:
                break
            self._put(rank, action, start)
            for changed in {rank, *self._awaiting(action, holders, ranks)}:
                best[changed] = self._first(changed)
        return tuple(tuple(line.done) for line in self.lines)

    def _first(self, rank: int) -> tuple[float, int, int, Action]:
        """Return what a rank runs next: when it starts, how urgent it is, the rank and the pass."""
        choices = [
            (start, urgency, rank, action)
            for urgency, (start, action) in enumerate(self._candidates(rank, self.lines[rank]))
            if start is not None
        ]
        return min(choices, default=(_NEVER, 0, rank, _NOTHING))

    def _awaiting(self, action: Action, holders: Mapping[int, set[int]], ranks: range) -> Iterable[int]:
        """Return the ranks whose next pass may wait for this one."""
        if action.kind in {S, T}:
            is_last = self.ran[action.kind, action.microbatch][0] == len(ranks)
            return ranks if is_last else ()
        if action.kind is OpKind.FORWARD:
            return ranks if action.stage == self.stages - 1 else holders[action.stage + 1]
        return holders.get(action.stage - 1, ())

    def _candidates(self, rank: int, line: _Line) -> list[tuple[float | None, Action]]:
        """Return what a rank could run next, and when it could start; None for what must wait for others."""
        found: list[tuple[float | None, Action]] = []
        if line.forwards:
            action = Action(S, rank, line.forwards[0])
            last = self.ends.get(Action(OpKind.FORWARD, self.stages - 1, action.microbatch))
            arrival = None if last is None else last + self.times.message
            found.append((self._start(line, arrival), action))
        if line.backwards:
            action = Action(T, rank, line.backwards[0])
            found.append((self._start(line, self._all_ready(S, action.microbatch)), action))
        if line.base:
            found.append((self._start(line, self._arrival(line.base[0], rank)), line.base[0]))
        return found

    def _start(self, line: _Line, arrival: float | None) -> float | None:
        return None if arrival is None else max(line.clock, arrival)

    def _all_ready(self, kind: OpKind, microbatch: int) -> float | None:
        """Return when an exchange among all ranks after their passes of a kind has ended."""
        ran, last = self.ran.get((kind, microbatch), (0, 0.0))
        return last + self.times.message if ran == len(self.lines) else None

    def _arrival(self, action: Action, rank: int) -> float | None:
        if action.stage == self.stages - 1 and action.kind in {OpKind.BACKWARD, OpKind.BACKWARD_INPUT}:
            return self._all_ready(S if self.method == "vocab-2" else T, action.microbatch)
        before = needed(action, self.stages, self.splits)
        if before is None:
            return 0.0
        end = self.ends.get(before)
        if end is None:
            return None
        return end + (self.times.message if self.owners[before] != rank else 0.0)

    def _put(self, rank: int, action: Action, start: float) -> None:
        line = self.lines[rank]
        if action.kind is S:
            line.backwards.append(line.forwards.popleft())
        elif action.kind is T:
            line.backwards.popleft()
        else:
            line.base.popleft()
        line.clock = self.ends[action] = start + self._length(action)
        line.done.append(action)
        if action.kind in {S, T}:
            ran, last = self.ran.get((action.kind, action.microbatch), (0, 0.0))
            self.ran[action.kind, action.microbatch] = ran + 1, max(last, line.clock)

    def _length(self, action: Action) -> float:
        times, stage = self.times, action.stage
        match action.kind:
            case OpKind.FORWARD:
                return times.forward[stage]
            case OpKind.BACKWARD_INPUT:
                return times.backward_input[stage]
            case OpKind.BACKWARD_WEIGHT:
                return times.backward_weight[stage]
            case OpKind.BACKWARD:
                return times.backward_input[stage] + times.backward_weight[stage]
        return times.output[0 if action.kind is S else 1]


def without_vocabulary(order: Order) -> Order:
    """Return an order without the passes of a divided output layer."""
    return tuple(
        entries
        if isinstance(entries, Passes)
        else tuple(entry for entry in entries if isinstance(entry, Overlapped) or entry.kind not in {S, T})
        for entries in order
    )
