"""Rules of the pipeline schedule: chunks per rank, micro-batches, and schedules read from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.files.base import beside
from simulator.files.schedule_choice import CsvSchedule
from simulator.schedules import SCHEDULES, Request
from simulator.schedules.chains import faults
from simulator.schedules.csv_form import CUSTOM, read_entry, read_rows

if TYPE_CHECKING:
    from simulator.files.findings import Findings
    from simulator.files.scenario_file import ScenarioFile
    from simulator.files.sections import ParallelismSection
    from simulator.scenario import Model

_PATH = "parallelism.schedule"
_SHOWN = 5
_DIVIDES_VOCABULARY = frozenset({"1f1b", "gpipe", "zb-h1", "zb-1p", "zb-2p", "zb-v", "v-half", "v-min"})
"""Schedules of any number of micro-batches without pairs of passes, into which further passes can be put."""


def schedule_name(section: ParallelismSection) -> str:
    """Return the name of the schedule, given or usual for the number of chunks."""
    if isinstance(section.schedule, CsvSchedule):
        return CUSTOM
    return section.schedule or ("1f1b" if section.vpp == 1 else "interleaved")


def check_chunks(file: ScenarioFile, findings: Findings) -> None:
    """Check the schedule against the pipeline's ranks and chunks."""
    degrees = file.parallelism
    if degrees.vpp > 1 and degrees.pp == 1:
        findings.problem("parallelism.vpp", f"vpp = {degrees.vpp} needs a pipeline: pp is 1")
    name = schedule_name(degrees)
    if name == CUSTOM or SCHEDULES[name].takes_chunks(degrees.vpp):
        return
    schedule = SCHEDULES[name]
    if degrees.vpp > 1 and schedule.chunks == (1, 1):
        advice = "use interleaved, or vpp: 1"
    elif schedule.chunks == (2, None):
        advice = "use 1f1b or set vpp"
    else:
        advice = f"set vpp: {schedule.chunks[0]}"
    findings.problem(_PATH, f"{schedule.chunk_rule()}, but vpp is {degrees.vpp}: {advice}")


def check_microbatches(file: ScenarioFile, dp: int, microbatches: int, findings: Findings) -> None:
    """Check that the schedule can run so many micro-batches."""
    degrees, training = file.parallelism, file.training
    name, group = schedule_name(degrees), degrees.microbatch_group_size
    if name == CUSTOM or not SCHEDULES[name].takes_chunks(degrees.vpp):
        return
    schedule = SCHEDULES[name]
    request = Request(pp=degrees.pp, vpp=degrees.vpp, num_microbatches=microbatches, group_size=group)
    if schedule.fits(request):
        return
    per_step = training.micro_batch_size * dp
    near = schedule.nearest_microbatches(degrees.pp, degrees.vpp, microbatches, group)
    nearest = " or ".join(str(number * per_step) for number in near)
    findings.problem(
        "training.global_batch_size",
        f"{name} needs {schedule.rule}; pp = {degrees.pp}, and "
        f"{training.global_batch_size} / ({training.micro_batch_size} x {dp}) = {microbatches} micro-batches"
        + (f"; nearest global_batch_size: {nearest}" if nearest else ""),
    )


def schedule_rows(file: ScenarioFile, dp: int, findings: Findings) -> tuple[str, ...]:
    """Return the lines of a schedule that is read from a file; empty for one that has a name."""
    choice, degrees, training = file.parallelism.schedule, file.parallelism, file.training
    if not isinstance(choice, CsvSchedule):
        return ()
    path = beside(findings.document.value_place(("parallelism", "schedule", "csv")), choice.csv)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        findings.problem(
            f"{_PATH}.csv", f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
        )
        return ()
    rows = tuple(line for line in lines if line.strip())
    problems = _unreadable(rows)
    if not problems and len(rows) != degrees.pp:
        problems = [f"has {len(rows)} lines, one per rank, but pp is {degrees.pp}"]
    if not problems:
        microbatches = training.global_batch_size // (training.micro_batch_size * dp)
        problems = faults(read_rows(rows), degrees.pp * degrees.vpp, microbatches)
    for problem in problems[:_SHOWN]:
        findings.problem(f"{_PATH}.csv", f"{path}: {problem}")
    if len(problems) > _SHOWN:
        findings.problem(f"{_PATH}.csv", f"{path}: {len(problems) - _SHOWN} more problems")
    return rows


def _unreadable(rows: tuple[str, ...]) -> list[str]:
    problems = []
    for number, row in enumerate(rows, start=1):
        for cell in row.split(","):
            try:
                read_entry(cell.strip())
            except ValueError as error:
                problems.append(f"line {number}: {error}")
    return problems


def post_validates(name: str) -> bool:
    """Tell whether a schedule's own implementation updates weights before it has the gradient norm."""
    return name != CUSTOM and SCHEDULES[name].post_validates


def check_vocabulary(file: ScenarioFile, model: Model, findings: Findings) -> None:
    """Check that the embedding and the head can be divided among pipeline ranks."""
    degrees = file.parallelism
    if degrees.vocabulary == "none":
        return
    path = "parallelism.vocabulary"
    name = schedule_name(degrees)
    if degrees.pp == 1:
        findings.problem(path, f"{degrees.vocabulary} needs a pipeline: pp is 1")
    possible = {"1f1b"} if degrees.vocabulary == "interlaced" else _DIVIDES_VOCABULARY
    if name not in possible:
        findings.problem(
            path,
            f"{degrees.vocabulary} does not go with the schedule {name}; use {' or '.join(sorted(possible))}",
        )
    if model.tie_word_embeddings:
        findings.problem(
            path,
            f"{degrees.vocabulary} needs separate tables of embedding and head: tie_word_embeddings is true",
        )
