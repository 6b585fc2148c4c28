"""When everything happens: engines turn a Program and its Durations into a Timeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.engines import compiled, event
from simulator.engines.sharing import meets, shares_links

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.costs.durations import Durations
    from simulator.engines.timeline import Timeline
    from simulator.workload.program import Program

ENGINES: dict[str, Callable[[Program, Durations], Timeline]] = {"event": event.run, "compiled": compiled.run}


def run_fastest(program: Program, durations: Durations) -> Timeline:
    """Return what the event engine says to the last bit, from the compiled one where no links are shared."""
    return ENGINES["event" if shares_links(program, durations) else "compiled"](program, durations)


def run_quick(program: Program, durations: Durations) -> Timeline:
    """Return what the event engine says but for rounding, from the compiled one where no transfers meet."""
    timeline = compiled.run(program, durations)
    return event.run(program, durations) if meets(timeline, durations) else timeline
