"""What passes wait for, and whether a schedule can be run to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.schedules.action import Action, Overlapped, passes
from simulator.schedules.op_kind import OpKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from simulator.schedules.action import Entry, Order


def needed(action: Action, stages: int, splits: Mapping[tuple[int, int], bool]) -> Action | None:
    """Return the pass whose result a pass needs, or None.

    Args:
        action: The pass.
        stages: Stages of the model.
        splits: Whether the backward pass is split, by stage and micro-batch.
    """
    kind, stage, microbatch = action
    if kind is OpKind.FORWARD:
        return Action(kind, stage - 1, microbatch) if stage else None
    if kind is OpKind.BACKWARD_WEIGHT:
        return Action(OpKind.BACKWARD_INPUT, stage, microbatch)
    if stage == stages - 1:
        return Action(OpKind.FORWARD, stage, microbatch)
    later = OpKind.BACKWARD_INPUT if splits[stage + 1, microbatch] else OpKind.BACKWARD
    return Action(later, stage + 1, microbatch)


def split_backward_passes(order: Order) -> dict[tuple[int, int], bool]:
    """Tell by stage and micro-batch whether a schedule splits the backward pass."""
    return {
        (action.stage, action.microbatch): action.kind is not OpKind.BACKWARD
        for entries in order
        for action in passes(entries)
        if action.kind is not OpKind.FORWARD
    }


def executable(order: Order) -> Iterator[tuple[int, Entry]]:
    """Yield ranks and entries in an order in which all can run; it ends where the rest waits for ever."""
    splits = split_backward_passes(order)
    stages = 1 + max((stage for stage, _ in splits), default=0)
    done: set[Action] = set()
    place = [0] * len(order)
    waiting: dict[Action, list[int]] = {}
    ready = list(range(len(order) - 1, -1, -1))
    while ready:
        rank = ready.pop()
        while place[rank] < len(order[rank]):
            entry = order[rank][place[rank]]
            both = (entry.forward, entry.backward) if isinstance(entry, Overlapped) else (entry,)
            missing = _missing(both, stages, splits, done)
            if missing is not None:
                waiting.setdefault(missing, []).append(rank)
                break
            place[rank] += 1
            done.update(both)
            yield rank, entry
            for action in both:
                ready.extend(waiting.pop(action, ()))


def _missing(
    both: tuple[Action, ...], stages: int, splits: Mapping[tuple[int, int], bool], done: set[Action]
) -> Action | None:
    firsts = (needed(action, stages, splits) for action in both)
    return next((first for first in firsts if first is not None and first not in done), None)


def faults(order: Order, stages: int, num_microbatches: int) -> list[str]:
    """Return what keeps an order from being a schedule; empty for a sound one."""
    found: list[str] = []
    seen: dict[tuple[int, int], list[OpKind]] = {}
    for entries in order:
        for kind, stage, microbatch in passes(entries):
            seen.setdefault((stage, microbatch), []).append(kind)
    wanted = {(stage, microbatch) for stage in range(stages) for microbatch in range(num_microbatches)}
    sound = (
        [OpKind.FORWARD, OpKind.BACKWARD],
        [OpKind.FORWARD, OpKind.BACKWARD_INPUT, OpKind.BACKWARD_WEIGHT],
    )
    for stage, microbatch in sorted(wanted | set(seen)):
        kinds = sorted(seen.get((stage, microbatch), []))
        if (stage, microbatch) not in wanted:
            found.append(
                f"stage {stage}, micro-batch {microbatch}: there are {stages} stages and "
                f"{num_microbatches} micro-batches"
            )
        elif kinds not in sound:
            text = ", ".join(kind.name.lower() for kind in kinds) or "nothing"
            found.append(
                f"stage {stage}, micro-batch {microbatch}: needs F and B, or F, I and W, once each; "
                f"found {text}"
            )
    if found:
        return found
    ran = sum(1 for _ in executable(order))
    total = sum(map(len, order))
    if ran < total:
        return [f"{total - ran} of {total} actions wait for each other for ever"]
    return []
