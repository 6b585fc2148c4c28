"""The eight steps of DualPipe (DeepSeek-V3, arXiv:2412.19437, section 3.2.1, and its published code).

A rank has two stages: ``near``, which the rank's first micro-batches enter, and ``far``. In DualPipe they
belong to two directions; in DualPipeV, the same cut in half, to the two arms of a V.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.schedules.writer import RankWriter

if TYPE_CHECKING:
    from simulator.schedules.action import Entry


def eight_steps(near: int, far: int, *, place: int, ranks: int, microbatches: int) -> list[Entry]:
    """Return one rank's passes.

    Args:
        near: Stage that this rank's first passes run.
        far: Its other stage.
        place: Distance of the rank from the end where micro-batches enter.
        ranks: Ranks from there to where the two directions meet.
        microbatches: Micro-batches of each stage; at least ``2 * ranks``.
    """
    writer = RankWriter()
    beyond = ranks - place - 1
    writer.forward(near, times=2 * beyond)
    for _ in range(place + 1):
        writer.forward(near)
        writer.forward(far)
    for _ in range(beyond):
        writer.input_gradient(far)
        writer.weight_gradient()
        writer.forward(far)
    _main(writer, near, far, is_last=beyond == 0, times=microbatches - 2 * ranks + place + 1)
    for _ in range(beyond):
        writer.backward(far)
        writer.overlapped(far, near)
    _wind_down(writer, near, far, place)
    for _ in range(beyond):
        writer.weight_gradient()
        writer.input_gradient(near)
    writer.weight_gradient(times=place + 1)
    return writer.entries


def _main(writer: RankWriter, near: int, far: int, *, is_last: bool, times: int) -> None:
    """Run pairs; where the directions meet, the first two passes stay apart, which makes a smaller bubble."""
    for number in range(times):
        if number == 0 and is_last:
            writer.forward(near)
            writer.backward(far)
        else:
            writer.overlapped(near, far)
        writer.overlapped(far, near)


def _wind_down(writer: RankWriter, near: int, far: int, place: int) -> None:
    """Run backward passes of both stages; those of the second half owe their weight gradients."""
    first_split = place + 1
    for number in range(2 * (place + 1)):
        stage = near if number % 2 else far
        if number >= first_split:
            writer.input_gradient(stage)
        else:
            writer.backward(stage)
