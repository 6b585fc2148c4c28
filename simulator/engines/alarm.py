"""The one kind of event that the engine schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from simpy import Environment, Event
from simpy.events import NORMAL, EventPriority

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

END_OF_INSTANT = EventPriority(2)  # after SimPy's own priorities, URGENT = 0 and NORMAL = 1


class Alarm(Event, Generic[T]):
    """Calls ``call(alarm)`` after ``delay`` seconds; ``subject`` says what it is about.

    A SimPy ``Timeout`` with a value and one callback would do the same. This is leaner, because a run makes
    one for every op and nothing ever asks for its state.
    """

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
