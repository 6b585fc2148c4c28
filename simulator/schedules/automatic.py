"""The automatic scheduler of zero-bubble pipelines (Qi et al., arXiv:2401.10241, section 3.1).

A heuristic that knows how long passes and messages take and how much memory there is:

1. Before the first backward pass, as many forward passes as memory and time allow.
2. Then one forward pass and one input gradient in turn. A gap takes a weight gradient if it is long enough
   for it, or if the gap would make this stage's bubble the largest of all; a full memory takes one, too.
3. A stage stays at least one forward pass ahead of the next; where it is further ahead, it may skip a turn.
4. The weight gradients that are left come last.

As in the published code (sail-sg/zero-bubble-pipeline-parallelism, ``zb_schedules.py``), one time of each
kind, the median over all stages, stands for every stage, and three choices that the heuristic leaves open are
tried in all combinations.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING

from simulator.schedules.action import Action
from simulator.schedules.op_kind import OpKind

if TYPE_CHECKING:
    from simulator.schedules.action import Order
    from simulator.schedules.schedule import Request, StageTimes


_TOLERANCE = 1e-9
_F, _I, _W = OpKind.FORWARD, OpKind.BACKWARD_INPUT, OpKind.BACKWARD_WEIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the heuristic leaves open.

    Attributes:
        delays_backward: Whether a further warm-up pass may delay the first input gradient.
        skips_forward: Whether a stage far ahead may leave out a forward pass.
        fills_short_gaps: Whether gaps too short for a weight gradient may take one although another stage
            has a larger bubble.
    """

    delays_backward: bool
    skips_forward: bool
    fills_short_gaps: bool


def automatic(request: Request, limit: float) -> Order:
    """Return the best order that the heuristic finds.

    Args:
        request: The pipeline, one chunk per rank.
        limit: Micro-batches whose activations a rank may hold.
    """
    attempts = []
    times = _alike(request.stage_times())
    for delays, skips, fills in product((True, False), repeat=3):
        choices = Choices(delays_backward=delays, skips_forward=skips, fills_short_gaps=fills)
        attempts.append(_Attempt(request, times, limit, choices))
        attempts[-1].run()
    best = min(attempts, key=lambda attempt: attempt.duration())
    return tuple(tuple(rank.actions) for rank in best.ranks)


def _alike(times: StageTimes) -> StageTimes:
    """Let the median over all stages stand for every stage."""

    def median(seconds: tuple[float, ...]) -> tuple[float, ...]:
        return (sorted(seconds)[len(seconds) // 2],) * len(seconds)

    return replace(
        times,
        forward=median(times.forward),
        backward_input=median(times.backward_input),
        backward_weight=median(times.backward_weight),
    )


@dataclass(slots=True)
class _Rank:
    """One stage as far as it is scheduled.

    Attributes:
        number: The stage.
        seconds: How long its three kinds of pass take.
        clock: When its last pass ends.
        held: Micro-batches in memory; a weight gradient still to come holds its share.
        bubble: Idle time since its first pass.
        actions: Its passes.
        ends: When each pass ends, by kind and micro-batch.
    """

    number: int
    seconds: dict[OpKind, float]
    clock: float = 0.0
    held: float = 0.0
    bubble: float = 0.0
    actions: list[Action] = field(default_factory=list)
    ends: dict[OpKind, list[float]] = field(default_factory=lambda: {_F: [], _I: [], _W: []})

    def count(self, kind: OpKind) -> int:
        return len(self.ends[kind])

    @property
    def owes(self) -> bool:
        """Whether a weight gradient could run now."""
        return len(self.ends[_W]) < len(self.ends[_I])


class _Attempt:
    """One run of the heuristic."""

    def __init__(self, request: Request, times: StageTimes, limit: float, choices: Choices) -> None:
        self.total = request.num_microbatches
        self.message = times.message
        self.limit = limit
        self.choices = choices
        share = times.weight_share
        self.change = {_F: 1.0, _I: share - 1.0, _W: -share}
        columns = zip(times.forward, times.backward_input, times.backward_weight, strict=True)
        self.ranks = [
            _Rank(number, dict(zip((_F, _I, _W), column, strict=True)))
            for number, column in enumerate(columns)
        ]

    def run(self) -> None:
        """Schedule everything."""
        self._warm_up()
        for _ in range(1, self.total):
            self._forward_turn()
            self._backward_turn()
        for rank in self.ranks:
            while rank.owes:
                self._put(rank, _W)

    def duration(self) -> float:
        """Return the longest time from a stage's first to its last pass."""
        return max(rank.clock - (rank.ends[_F][0] - rank.seconds[_F]) for rank in self.ranks)

    def _arrival(self, rank: _Rank, kind: OpKind) -> float:
        """Return when the neighbour's result for the next pass of a kind is there."""
        neighbour = rank.number + (-1 if kind is _F else 1)
        if kind is _W or not 0 <= neighbour < len(self.ranks):
            return 0.0
        return self.ranks[neighbour].ends[kind][rank.count(kind)] + self.message

    def _put(self, rank: _Rank, kind: OpKind) -> None:
        microbatch = rank.count(kind)
        start = max(rank.clock, self._arrival(rank, kind))
        if rank.actions:
            rank.bubble += start - rank.clock
        rank.clock = start + rank.seconds[kind]
        rank.held += self.change[kind]
        rank.actions.append(Action(kind, rank.number, microbatch))
        rank.ends[kind].append(rank.clock)

    def _warm_up(self) -> None:
        """Schedule the first micro-batch, and further forward passes before its way back."""
        for rank in self.ranks:
            self._put(rank, _F)
        more = self._further_forwards()
        for rank, count in zip(self.ranks, more, strict=True):
            for _ in range(count):
                self._put(rank, _F)
        for rank in reversed(self.ranks):
            self._put(rank, _I)

    def _further_forwards(self) -> list[int]:
        more = [0] * len(self.ranks)
        end = 0.0
        for rank in reversed(self.ranks):
            arrival = end + self.message if rank is not self.ranks[-1] else rank.clock
            clock, seconds = rank.clock, rank.seconds[_F]
            while rank is not self.ranks[-1]:
                has_room = rank.held + more[rank.number] + 1 <= self.limit + _TOLERANCE
                if not has_room or 1 + more[rank.number] >= self.total or clock >= arrival:
                    break
                if not self.choices.delays_backward and clock + seconds > arrival:
                    break
                clock += seconds
                more[rank.number] += 1
            end = max(clock, arrival) + rank.seconds[_I]
        for number in range(1, len(more)):
            # A stage stays one forward pass behind the stage before, until that has run all.
            before = more[number - 1]
            more[number] = min(more[number], before if 1 + before == self.total else max(0, before - 1))
        return more

    def _forward_turn(self) -> None:
        takes = [rank.count(_F) < self.total and not self._skips(rank) for rank in self.ranks]
        for number in range(len(takes) - 2, -1, -1):
            # If the next stage takes no turn although it has passes left, this one need not either.
            if not takes[number + 1] and self.ranks[number + 1].count(_F) < self.total:
                takes[number] = False
        for rank, takes_turn in zip(self.ranks, takes, strict=True):
            if takes_turn and self._has_input(rank):
                self._make_room(rank, _F)
                self._fill_gap(rank, _F)
                self._put(rank, _F)

    def _has_input(self, rank: _Rank) -> bool:
        return rank.number == 0 or self.ranks[rank.number - 1].count(_F) > rank.count(_F)

    def _skips(self, rank: _Rank) -> bool:
        """Tell whether a stage that is two or more ahead had better wait for the next input gradient."""
        if not self.choices.skips_forward or rank.number + 1 == len(self.ranks):
            return False
        following = self.ranks[rank.number + 1]
        if rank.count(_F) < following.count(_F) + 2:
            return False
        arrival = following.clock + following.seconds[_F] + following.seconds[_I] + self.message
        if rank.clock >= arrival:
            return True
        if rank.clock + self._seconds_of_room(rank, _F) + rank.seconds[_F] <= arrival:
            return False
        return arrival - rank.clock <= self._largest_bubble() - rank.bubble

    def _backward_turn(self) -> None:
        for rank in reversed(self.ranks):
            self._make_room(rank, _I)
            self._fill_gap(rank, _I)
            if rank.number == 0 and rank.count(_F) == self.total:
                while rank.owes:
                    self._put(rank, _W)
            self._put(rank, _I)

    def _seconds_of_room(self, rank: _Rank, kind: OpKind) -> float:
        """Return how long the weight gradients take that have to make room for a pass."""
        owed = rank.count(_I) - rank.count(_W)
        excess = rank.held + self.change[kind] - self.limit
        freed = -self.change[_W]
        needed = next((number for number in range(owed) if excess - number * freed <= _TOLERANCE), owed)
        return needed * rank.seconds[_W]

    def _make_room(self, rank: _Rank, kind: OpKind) -> None:
        while rank.owes and rank.held + self.change[kind] > self.limit + _TOLERANCE:
            self._put(rank, _W)

    def _fill_gap(self, rank: _Rank, kind: OpKind) -> None:
        """Run weight gradients until the neighbour's result is there."""
        arrival = self._arrival(rank, kind)
        while rank.owes and rank.clock + rank.seconds[_W] <= arrival:
            self._put(rank, _W)
        if not rank.owes or rank.clock >= arrival:
            return
        grows_largest = arrival - rank.clock > self._largest_bubble() - rank.bubble
        if grows_largest or self.choices.fills_short_gaps:
            self._put(rank, _W)

    def _largest_bubble(self) -> float:
        return max(rank.bubble for rank in self.ranks)
