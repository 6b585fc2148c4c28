"""When everything happens: engines turn a Program and its Durations into a Timeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.engines import compiled, event
from simulator.engines.sharing import any_overlap, shares_links

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.engines.durations import Durations
    from simulator.engines.timeline import Timeline
    from simulator.workload.program import Program

ENGINES: dict[str, Callable[[Program, Durations], Timeline]] = {"event": event.run, "compiled": compiled.run}


def fastest(program: Program, durations: Durations) -> Callable[[Program, Durations], Timeline]:
    """Return what says the same as the event engine to the last bit: compiled, where no links are shared.

    It is the same for all durations with the same flows.
    """
    return ENGINES["event" if shares_links(program, durations) else "compiled"]


def run_quick(program: Program, durations: Durations) -> Timeline:
    """Return what the event engine says but for rounding, from the compiled one where no transfers meet."""
    timeline = compiled.run(program, durations)
    return event.run(program, durations) if any_overlap(timeline, durations) else timeline
