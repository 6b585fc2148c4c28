"""The events that the engine schedules; a SimPy ``Timeout`` would do the same, at more cost per op."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from simpy import Environment, Event
from simpy.events import NORMAL, EventPriority

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

END_OF_INSTANT = EventPriority(2)  # after SimPy's own priorities, URGENT = 0 and NORMAL = 1


class Alarm(Event, Generic[T]):
    """Calls ``call(alarm)`` after ``delay`` seconds; ``subject`` says what it is about."""

    def __init__(
        self,
        env: Environment,
        delay: float,
        subject: T,
        call: Callable[[Alarm[T]], None],
        priority: EventPriority = NORMAL,
    ) -> None:
        self.callbacks = [call]
        self.subject = subject
        self._ok = True
        env.schedule(self, priority, delay)

    def cancel(self) -> None:
        """Let nothing happen at its time; too late is no error."""
        if self.callbacks:
            self.callbacks.clear()


class Turn(Event):
    """What happens next on a stream: the end of the op that it runs, or of the op's fixed time.

    A stream runs one op at a time, so one event does for all of its ops, one after the other: whoever
    schedules it sets ``node``, and ``callbacks`` anew, which SimPy takes away when it happens.
    """

    def __init__(self) -> None:
        self._ok = True
        self.node = -1
