"""When everything happens: engines turn a Program and its Durations into a Timeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.engines import event

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.costs.durations import Durations
    from simulator.engines.timeline import Timeline
    from simulator.workload.program import Program

ENGINES: dict[str, Callable[[Program, Durations], Timeline]] = {"event": event.run}
