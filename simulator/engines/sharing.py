"""Where transfers may meet on a link, and where they did: what tells whether two engines can differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.engines import jit, loops
from simulator.engines.graph import queues

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulator.engines.durations import Durations
    from simulator.engines.timeline import Timeline
    from simulator.workload.program import Ints, Program


def shares_links(program: Program, durations: Durations) -> bool:
    """Tell whether ops of different streams cross one link, so that they may slow each other down."""
    return bool(durations.route.size) and bool(sharing_ops(program, durations).any())


def sharing_ops(program: Program, durations: Durations) -> NDArray[np.bool_]:
    """Return which ops cross a link that an op of another stream crosses too.

    Ops of one stream never run beside each other, so a link that only they cross is always theirs alone.
    """
    sharing = np.zeros(program.num_ops, dtype=np.bool_)
    op, link = _crossings(durations)
    queue = queues(program)[op]
    lowest = np.full(len(durations.link_bytes_per_s), np.iinfo(np.int64).max)
    highest = np.full(len(durations.link_bytes_per_s), -1)
    np.minimum.at(lowest, link, queue)
    np.maximum.at(highest, link, queue)
    sharing[op[lowest[link] < highest[link]]] = True
    return sharing


def any_overlap(timeline: Timeline, durations: Durations) -> bool:
    """Tell whether flows were on one link at the same time, going by when ops run alone.

    Where none were, sharing links changes nothing, and the timeline is what happens.

    Args:
        timeline: What an engine that knows no contention found.
        durations: What it was asked.
    """
    flows = np.flatnonzero(durations.flow_bytes > 0.0)
    start_s, end_s = timeline.start_s[flows] + durations.fixed_s[flows], timeline.end_s[flows]
    order = np.lexsort((end_s, start_s))
    start_s, end_s, flows = start_s[order], end_s[order] * (1 - 1e-12), flows[order]
    link_end_s = np.zeros(len(durations.link_bytes_per_s))
    columns = (flows, durations.route_start, durations.route, start_s, end_s)
    overlap: bool = jit.run(loops.any_overlap, len(flows), columns, (link_end_s,))
    return overlap


def _crossings(durations: Durations) -> tuple[Ints, Ints]:
    """Return every op that moves something and every link that it crosses, pair by pair."""
    op = np.repeat(np.arange(len(durations.fixed_s)), np.diff(durations.route_start))
    moves = durations.flow_bytes[op] > 0.0
    return op[moves], durations.route[moves]
