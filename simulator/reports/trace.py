"""A timeline as Chrome trace JSON, for https://ui.perfetto.dev and chrome://tracing.

Conventions are those of the PyTorch profiler, so that a simulated and a real trace load side by side:
``pid`` is the rank, ``tid`` the stream, times are microseconds, categories are ``kernel`` and
``gpu_user_annotation``. Format: "Trace Event Format" (Google, 2016).
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import numpy as np

from simulator.reports.trace_arguments import arguments_by_work, category
from simulator.results.memory import allocated_over_time
from simulator.workload.program import Ints, OpKind, Program, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.engines.timeline import Timeline

MAX_SLICES = 1_000_000

_STREAM_NAMES = {
    Stream.COMPUTE: "compute",
    Stream.TP: "tp",
    Stream.CP: "cp",
    Stream.EP: "ep",
    Stream.PP_FORWARD: "pp forward",
    Stream.PP_BACKWARD: "pp backward",
    Stream.DP_GATHER: "dp gather",
    Stream.DP_REDUCE: "dp reduce",
    Stream.HOST_OUT: "to host",
    Stream.HOST_IN: "from host",
    Stream.HOST: "host",
}


def left_out(timeline: Timeline, max_slices: int = MAX_SLICES) -> str:
    """Say what a trace of ``timeline`` would leave out, or return an empty text if nothing.

    Browsers give a trace about 2 GB of memory (Perfetto's documentation), hence the cap.
    """
    ranks = _kept_ranks(timeline.program, max_slices)
    dropped = timeline.program.num_ranks - len(ranks)
    parts = []
    if dropped:
        parts.append(f"{dropped} of {timeline.program.num_ranks} ranks, evenly spaced")
    kept = int(np.isin(timeline.program.rank, ranks).sum())
    if kept > max_slices:
        parts.append(f"the last {kept - max_slices} of {kept} slices")
    return f"left out to stay below {max_slices:,} slices: {' and '.join(parts)}" if parts else ""


def trace_json(timeline: Timeline, *, name: str = "", max_slices: int = MAX_SLICES) -> str:
    """Write a timeline as Chrome trace JSON.

    Args:
        timeline: What happened.
        name: What the trace is of, stored in ``otherData``.
        max_slices: Ops to write at most; beyond, whole ranks are left out and ``otherData`` says so.

    Returns:
        JSON text, the same for the same timeline.
    """
    ops = _kept_ops(timeline, max_slices)
    other = {"name": name, "left_out": left_out(timeline, max_slices)}
    other["ranks"] = (
        f"one of {timeline.program.replicas} identical replicas" if timeline.program.replicas > 1 else "all"
    )
    events = list(_metadata(timeline.program, ops))
    timed = [*_slices(timeline, ops), *_flows(timeline, ops), *_memory(timeline, ops)]
    timed.sort(key=lambda item: item[:3])
    events.extend(item[3] for item in timed)
    head = json.dumps({"displayTimeUnit": "ms", "otherData": other})
    return head[:-1] + ', "traceEvents": [\n' + ",\n".join(events) + "\n]}\n"


def trace_bytes(
    timeline: Timeline, *, name: str = "", compressed: bool, max_slices: int = MAX_SLICES
) -> bytes:
    """Return the content of a ``.json`` or ``.json.gz`` trace file; no clock reading gets into it."""
    content = trace_json(timeline, name=name, max_slices=max_slices).encode()
    return gzip.compress(content, compresslevel=6, mtime=0) if compressed else content


def _kept_ranks(program: Program, max_slices: int) -> Ints:
    """Choose ranks, evenly spaced, whose ops fit together into ``max_slices``; one at least."""
    counts = np.bincount(program.rank, minlength=program.num_ranks)
    keep = program.num_ranks
    while True:
        ranks = np.unique(np.linspace(0, program.num_ranks - 1, keep).astype(np.int64))
        if keep <= 1 or counts[ranks].sum() <= max_slices:
            return ranks
        keep = min(keep - 1, int(keep * max_slices / counts[ranks].sum()))
        keep = max(keep, 1)


def _kept_ops(timeline: Timeline, max_slices: int) -> Ints:
    kept = np.flatnonzero(np.isin(timeline.program.rank, _kept_ranks(timeline.program, max_slices)))
    return kept[np.lexsort((kept, timeline.start_s[kept]))][:max_slices]


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _us(nanoseconds: int) -> str:
    return f"{nanoseconds // 1000}.{nanoseconds % 1000:03d}"


def _metadata(program: Program, ops: Ints) -> Iterator[str]:
    for rank in np.unique(program.rank[ops]).tolist():
        label = f"rank {rank} ({program.rank_names[rank]})"
        for kind, args in (("process_name", {"name": label}), ("process_sort_index", {"sort_index": rank})):
            yield json.dumps({"ph": "M", "pid": rank, "tid": 0, "ts": 0, "name": kind, "args": args})
        for stream in np.unique(program.stream[ops][program.rank[ops] == rank]).tolist():
            named = _STREAM_NAMES[Stream(stream)]
            for kind, args in (
                ("thread_name", {"name": named}),
                ("thread_sort_index", {"sort_index": stream}),
            ):
                yield json.dumps({"ph": "M", "pid": rank, "tid": stream, "ts": 0, "name": kind, "args": args})


Timed = tuple[int, int, int, str]


def _slice_name(program: Program, op: int) -> str:
    """Name slices as the field's pictures do: ``F0`` is the forward pass of micro-batch 0."""
    name = program.label(op)
    return json.dumps(name.split(".")[0] if program.kind[op] <= OpKind.BACKWARD_WEIGHT else name)


def _slices(timeline: Timeline, ops: Ints) -> Iterator[Timed]:
    program = timeline.program
    by_work = arguments_by_work(program)
    for op in ops.tolist():
        start, end = _ns(timeline.start_s[op]), _ns(timeline.end_s[op])
        places = [f'"{key}": {value}' for key, value in _places(program, op)]
        args = ", ".join([*places, *by_work[program.work[op]]])
        rank, stream = program.rank[op], program.stream[op]
        text = (
            f'{{"ph": "X", "pid": {rank}, "tid": {stream}, "ts": {_us(start)}, "dur": {_us(end - start)}, '
            f'"name": {_slice_name(program, op)}, "cat": "{category(program, op)}", "args": {{{args}}}}}'
        )
        yield start, 0, op, text


def _places(program: Program, op: int) -> Iterator[tuple[str, int]]:
    for key, column in (("microbatch", program.microbatch), ("stage", program.stage)):
        if column[op] >= 0:
            yield key, int(column[op])


def _flows(timeline: Timeline, ops: Ints) -> Iterator[Timed]:
    """Draw an arrow along each dependency that crosses ranks: from the send to what waits for it."""
    program = timeline.program
    kept = np.zeros(program.num_ops, dtype=bool)
    kept[ops] = True
    waiting = np.repeat(np.arange(program.num_ops), np.diff(program.dependency_start))
    crosses = program.rank[waiting] != program.rank[program.dependency]
    crosses &= kept[waiting] & kept[program.dependency]
    pairs = zip(program.dependency[crosses].tolist(), waiting[crosses].tolist(), strict=True)
    for number, (source, target) in enumerate(pairs):
        for phase, op, extra in (("s", source, ""), ("f", target, ', "bp": "e"')):
            start = _ns(timeline.start_s[op])
            text = (
                f'{{"ph": "{phase}", "id": {number}, "pid": {program.rank[op]}, "tid": {program.stream[op]}, '
                f'"ts": {_us(start)}, "name": "pp", "cat": "p2p"{extra}}}'
            )
            yield start, 1 if phase == "s" else 2, number, text


def _memory(timeline: Timeline, ops: Ints) -> Iterator[Timed]:
    """Count the activation memory of each rank: taken when an op starts, given back when it ends."""
    for rank in np.unique(timeline.program.rank[ops]).tolist():
        times, sizes = allocated_over_time(timeline, rank)
        held = dict(zip(np.rint(times * 1e9).astype(np.int64).tolist(), sizes.tolist(), strict=True))
        for moment, size in held.items():
            text = (
                f'{{"ph": "C", "pid": {rank}, "tid": 0, "ts": {_us(moment)}, "name": "activation memory", '
                f'"args": {{"bytes": {max(round(size), 0)}}}}}'
            )
            yield moment, 3, rank, text
