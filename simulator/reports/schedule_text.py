"""A pipeline schedule as text: a line per rank, a cell per unit of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.program import OpKind

if TYPE_CHECKING:
    from simulator.engines.timeline import Timeline

_LETTERS = {
    OpKind.FORWARD: "F",
    OpKind.BACKWARD: "B",
    OpKind.BACKWARD_INPUT: "I",
    OpKind.BACKWARD_WEIGHT: "W",
}


def schedule_text(timeline: Timeline, chunk_of_stage: dict[tuple[int, int], int], width: int) -> str:
    """Draw ranks as lines; a pass is its letter, lower-case in odd chunks, and its micro-batch.

    Args:
        timeline: A run with whole numbers as times.
        chunk_of_stage: Which chunk of a rank each stage is, by rank and stage.
        width: Characters of a line; what does not fit is left out, which the last line says.
    """
    program = timeline.program
    passes = [op for op in range(program.num_ops) if OpKind(program.kind[op]) in _LETTERS]
    cell = 2 + max((len(str(int(program.microbatch[op]))) for op in passes), default=1)
    label = max(len(name) for name in program.rank_names) + 1
    units = round(timeline.makespan_s)
    shown = max(1, min(units, (width - label) // cell))
    rows = [["." + " " * (cell - 1)] * units for _ in program.rank_names]
    for op in passes:
        rank, start, end = int(program.rank[op]), round(timeline.start_s[op]), round(timeline.end_s[op])
        letter = _LETTERS[OpKind(program.kind[op])]
        if chunk_of_stage[rank, int(program.stage[op])] % 2:
            letter = letter.lower()
        rows[rank][start:end] = ["-" * (cell - 1) + " "] * (end - start)
        rows[rank][start] = f"{letter}{int(program.microbatch[op])}".ljust(cell)
    lines = [
        f"{name:<{label}}{''.join(row[:shown])}".rstrip()
        for name, row in zip(program.rank_names, rows, strict=True)
    ]
    if shown < units:
        lines.append(f"the first {shown} of {units} units of time; --timeline draws all")
    return "\n".join(lines)
